//! Against real pseudo terminals: what the kernel does at an unplug cannot be made up.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::FromRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::bus::{Device, Parity};
use crate::clock::SystemClock;

/// A pseudo terminal: the port's path, and the device's end of it.
struct Pty {
    device: File,
    path: PathBuf,
    /// Held open by the test as long as the port is not to see an end of file of its own.
    _port: File,
}

impl Pty {
    fn new() -> Self {
        let (mut device, mut port) = (0, 0);
        // SAFETY: both are valid for writing; null asks for no name and the default settings.
        let outcome = unsafe {
            libc::openpty(&raw mut device, &raw mut port, std::ptr::null_mut(), std::ptr::null(), std::ptr::null())
        };
        assert_eq!(outcome, 0, "openpty: {}", std::io::Error::last_os_error());
        let mut name = [0; 64];
        // SAFETY: the buffer is as long as it is said to be; ttyname_r ends it with a NUL on success.
        let path = unsafe {
            assert_eq!(libc::ttyname_r(port, name.as_mut_ptr(), name.len()), 0);
            CStr::from_ptr(name.as_ptr())
        };
        let path = PathBuf::from(path.to_str().unwrap());
        // SAFETY: openpty made both, and nobody else owns them.
        let (device, port) = unsafe { (File::from_raw_fd(device), File::from_raw_fd(port)) };
        Self { device, path, _port: port }
    }

    fn say(&mut self, text: &str) {
        self.device.write_all(text.as_bytes()).unwrap();
    }
}

fn port(device: impl Into<PathBuf>) -> SerialPort {
    let settings = SerialSettings {
        id: BusId::parse("test").unwrap(),
        device: Device::Path(device.into()),
        baud: 9600,
        data_bits: 8,
        parity: Parity::Even,
        stop_bits: 1,
        rs485: None,
    };
    SerialPort::new(settings, SystemClock::shared())
}

/// The same with a back-off longer than any test: only a change in a folder can bring it back.
fn watching_port(device: &Path) -> SerialPort {
    let hour = Duration::from_secs(3600);
    SerialPort { backoff: Backoff::new(hour, hour), ..port(device) }
}

/// The next event in words, within a deadline.
async fn next(port: &mut SerialPort) -> String {
    match tokio::time::timeout(Duration::from_secs(5), port.next()).await {
        Ok(PortEvent::Opened) => "opened".into(),
        Ok(PortEvent::Away) => "away".into(),
        Ok(PortEvent::Bytes { bytes, midway }) => {
            assert!(!midway, "a pseudo terminal keeps its first byte");
            String::from_utf8_lossy(bytes).into_owned()
        }
        Err(_) => "nothing within 5 s".into(),
    }
}

/// Replaces what a link shows in one step, as udev does.
fn point(link: &Path, target: &Path) {
    let fresh = link.with_extension("fresh");
    symlink(target, &fresh).unwrap();
    std::fs::rename(fresh, link).unwrap();
}

#[tokio::test]
async fn what_was_written_before_the_port_was_opened_is_read() {
    let mut pty = Pty::new();
    let mut port = port(&pty.path);
    assert_eq!(next(&mut port).await, "opened");
    pty.say("one\r\n");
    assert_eq!(next(&mut port).await, "one\r\n");
}

#[tokio::test]
async fn an_unplugged_port_comes_back_under_another_name() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("meter");
    let mut pty = Pty::new();
    point(&link, &pty.path);
    let mut port = watching_port(&link);
    assert_eq!(next(&mut port).await, "opened");
    for _ in 0..5 {
        pty.say("x");
        assert_eq!(next(&mut port).await, "x");
        let mut other = Pty::new();
        assert_ne!(other.path, pty.path);
        // The link goes too: another test may get the number that becomes free.
        std::fs::remove_file(&link).unwrap();
        drop(pty);
        assert_eq!(next(&mut port).await, "away");
        let waited = tokio::time::timeout(Duration::from_millis(50), port.next()).await;
        assert!(waited.is_err(), "there is no port, and that was told: {waited:?}");
        point(&link, &other.path);
        other.say("y");
        assert_eq!(next(&mut port).await, "opened");
        assert_eq!(next(&mut port).await, "y");
        pty = other;
    }
}

#[tokio::test]
async fn a_port_is_found_when_the_folder_of_its_link_is_made_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("serial/by-id/meter");
    let mut port = watching_port(&link);
    assert_eq!(next(&mut port).await, "away");
    let waited = tokio::time::timeout(Duration::from_millis(50), port.next()).await;
    assert!(waited.is_err(), "{waited:?}");
    let pty = Pty::new();
    std::fs::create_dir_all(link.parent().unwrap()).unwrap();
    symlink(&pty.path, &link).unwrap();
    assert_eq!(next(&mut port).await, "opened");
}

#[tokio::test]
async fn a_port_that_is_away_costs_next_to_no_tries() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("meter");
    let pty = Pty::new();
    point(&link, &pty.path);
    let mut port = port(&link);
    assert_eq!(next(&mut port).await, "opened");
    std::fs::remove_file(&link).unwrap();
    drop(pty);
    assert_eq!(next(&mut port).await, "away");
    // Files of other names come and go beside it: none of our business.
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        std::fs::write(folder.path().join("other"), "x").unwrap();
        std::fs::remove_file(folder.path().join("other")).unwrap();
        let _ = tokio::time::timeout(Duration::from_millis(5), port.next()).await;
    }
    let failed = port.outage.unwrap().failed;
    // At least 100 ms apart, with full jitter and doubling: 20 would be no back-off at all.
    assert!((1..=14).contains(&failed), "{failed} tries in 2 s");
}

#[tokio::test]
async fn a_port_in_use_is_told_as_such_and_taken_when_it_is_free() {
    let pty = Pty::new();
    let mut holder = port(&pty.path);
    assert_eq!(next(&mut holder).await, "opened");
    let settings = holder.settings.clone();
    assert_eq!(open(&settings, &Roots::default()).unwrap_err(), OpenError::InUse);
    let mut second = port(&pty.path);
    assert_eq!(next(&mut second).await, "away");
    drop(holder);
    assert_eq!(next(&mut second).await, "opened");
}

#[tokio::test]
async fn the_line_is_set_as_asked_whether_the_baud_is_a_usual_one_or_not() {
    use tokio_serial::SerialPort as _;

    let pty = Pty::new();
    for baud in [1200, 115_200, 250_000] {
        let settings = SerialSettings { baud, ..port(&pty.path).settings };
        let opened = open(&settings, &Roots::default()).unwrap();
        assert_eq!(opened.stream.baud_rate().unwrap(), baud);
        assert!(!opened.live, "a pseudo terminal keeps what was written before");
    }
}

#[tokio::test]
async fn what_is_no_port_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let reason = |path: &Path| open(&port(path).settings, &Roots::default()).unwrap_err();
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert_eq!(reason(&folder.path().join("file")), OpenError::NoPort);
    assert_eq!(reason(folder.path()), OpenError::NoPort);
    assert_eq!(reason(Path::new("/dev/null")), OpenError::NoPort);
    assert_eq!(reason(&folder.path().join("nothing")), OpenError::NotThere);
    assert_eq!(reason(&folder.path().join("file/nothing")), OpenError::NotThere);
}

#[tokio::test]
async fn the_port_of_an_adapter_is_opened_by_its_ids() {
    let folder = tempfile::tempdir().unwrap();
    let roots = Roots { sys: folder.path().join("sys"), dev: folder.path().join("dev") };
    let adapter = roots.sys.join("devices/1-1");
    let mut settings = port("/dev/null").settings;
    settings.device = Device::Usb { vendor: 0x0403, product: 0x6001, serial: None };
    std::fs::create_dir_all(&roots.dev).unwrap();
    let mut port = SerialPort::with_roots(settings, SystemClock::shared(), roots.clone());
    assert_eq!(next(&mut port).await, "away");

    let pty = Pty::new();
    std::fs::create_dir_all(adapter.join("1-1:1.0/ttyUSB3")).unwrap();
    std::fs::write(adapter.join("idVendor"), "0403\n").unwrap();
    std::fs::write(adapter.join("idProduct"), "6001\n").unwrap();
    std::fs::create_dir_all(roots.sys.join("class/tty/ttyUSB3")).unwrap();
    symlink(adapter.join("1-1:1.0/ttyUSB3"), roots.sys.join("class/tty/ttyUSB3/device")).unwrap();
    symlink(&pty.path, roots.dev.join("ttyUSB3")).unwrap();
    assert_eq!(next(&mut port).await, "opened");
}
