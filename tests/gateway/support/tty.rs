//! A pseudo terminal in the place of a serial port.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest a line may wait for somebody to read the port.
const WRITE: Duration = Duration::from_secs(10);

/// The device's side of a port. The gateway opens [`Tty::path`], a link, as udev makes them under `/dev/serial/by-id`.
pub(crate) struct Tty {
    link: PathBuf,
    ends: Option<Ends>,
}

struct Ends {
    device: File,
    // Held open so that the port keeps its raw mode, and so that lines written before the gateway opens it wait for it.
    port: File,
}

impl Tty {
    /// Plugs a device in: makes a pair in raw mode and a link to it at `link`.
    pub(crate) fn plug(link: impl Into<PathBuf>) -> Self {
        let mut tty = Self { link: link.into(), ends: None };
        tty.replug();
        tty
    }

    /// The link's path.
    pub(crate) fn path(&self) -> &Path {
        &self.link
    }

    /// The path for a config.
    pub(crate) fn device(&self) -> String {
        self.link.display().to_string()
    }

    /// Pulls the device: the reader of the port meets its end, the link is gone.
    pub(crate) fn unplug(&mut self) {
        std::fs::remove_file(&self.link).expect("remove the link");
        self.ends = None;
    }

    /// Plugs it in again: another pair, in general under another number, with the link pointing to it.
    pub(crate) fn replug(&mut self) {
        let (ends, port) = open_pair();
        let fresh = self.link.with_extension("fresh");
        let _ = std::fs::remove_file(&fresh);
        std::os::unix::fs::symlink(port, &fresh).expect("make the link");
        std::fs::rename(&fresh, &self.link).expect("put the link in its place");
        self.ends = Some(ends);
    }

    /// Sends bytes, waiting while the port's buffer is full.
    #[track_caller]
    pub(crate) fn write(&mut self, mut bytes: &[u8]) {
        let device = &mut self.ends.as_mut().expect("the device is plugged in").device;
        let start = Instant::now();
        while !bytes.is_empty() {
            match device.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(start.elapsed() < WRITE, "nobody has read the port for {WRITE:?}");
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("write to the pseudo terminal: {error}"),
            }
        }
    }

    /// Whether the port's reader has taken all that was sent.
    pub(crate) fn is_read(&self) -> bool {
        let port = &self.ends.as_ref().expect("the device is plugged in").port;
        let mut waiting: libc::c_int = -1;
        // SAFETY: the descriptor is open, and FIONREAD writes one int.
        let outcome = unsafe { libc::ioctl(port.as_raw_fd(), libc::FIONREAD, &raw mut waiting) };
        assert_eq!(outcome, 0, "FIONREAD: {}", std::io::Error::last_os_error());
        waiting == 0
    }

    /// What was written to the device since the last call.
    pub(crate) fn heard(&mut self) -> String {
        let device = &mut self.ends.as_mut().expect("the device is plugged in").device;
        let mut heard = Vec::new();
        // It ends with the error that says there is no more.
        let _ = device.read_to_end(&mut heard);
        String::from_utf8_lossy(&heard).into_owned()
    }

    /// Sends a line with its end.
    #[track_caller]
    pub(crate) fn line(&mut self, text: &str) {
        self.write(format!("{text}\r\n").as_bytes());
    }
}

fn open_pair() -> (Ends, PathBuf) {
    let (mut device, mut port) = (-1, -1);
    // SAFETY: both ends are writable ints; the name, the settings and the size may be null (openpty(3)).
    let outcome = unsafe {
        libc::openpty(&raw mut device, &raw mut port, std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut())
    };
    assert_eq!(outcome, 0, "openpty: {}", std::io::Error::last_os_error());
    // SAFETY: both descriptors were opened above and belong to nobody else.
    let (device, port) = unsafe { (File::from_raw_fd(device), File::from_raw_fd(port)) };
    for end in [&device, &port] {
        // SAFETY: the descriptor is open. Closed on exec: a child that inherited the device's end would keep an unplugged port alive.
        unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    // SAFETY: an all-zero termios is a valid value to be overwritten; the descriptors are open.
    unsafe {
        let mut settings: libc::termios = std::mem::zeroed();
        libc::tcgetattr(port.as_raw_fd(), &raw mut settings);
        libc::cfmakeraw(&raw mut settings);
        libc::tcsetattr(port.as_raw_fd(), libc::TCSANOW, &raw const settings);
        let flags = libc::fcntl(device.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(device.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK);
    }
    let path = std::fs::read_link(format!("/proc/self/fd/{}", port.as_raw_fd())).expect("the port has a name");
    (Ends { device, port }, path)
}
