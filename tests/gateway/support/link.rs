//! The link to the cloud: a TCP proxy that can be cut, slowed, delayed and turned into a black hole.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

/// How often a pump that has nothing to do looks at its orders.
const LOOK: Duration = Duration::from_millis(10);
/// Most bytes taken at once at full speed.
const CHUNK: usize = 64 * 1024;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// RST: what is under way is gone.
    Reset,
    /// FIN: what was taken is delivered first.
    Fin,
}

/// A link. Dropping it cuts everything.
pub(crate) struct Link {
    port: u16,
    orders: Arc<Orders>,
}

#[derive(Default)]
struct Orders {
    target: AtomicU16,
    /// Rises with each cut; a connection with an older number is to end.
    generation: AtomicU64,
    reset: AtomicBool,
    down: AtomicBool,
    swallow: AtomicBool,
    bytes_per_second: AtomicU64,
    delay_ms: AtomicU64,
    opened: AtomicU64,
    open: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    gone: AtomicBool,
}

impl Link {
    /// A link to a port of 127.0.0.1.
    pub(crate) fn to(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind 127.0.0.1:0");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let orders = Arc::new(Orders { target: AtomicU16::new(target), ..Orders::default() });
        let shared = Arc::clone(&orders);
        std::thread::spawn(move || accept(&listener, &shared));
        Self { port, orders }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The URL for a bridge without TLS.
    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Ends every open connection. The next one is served.
    pub(crate) fn cut(&self, how: Cut) {
        self.orders.reset.store(how == Cut::Reset, Ordering::SeqCst);
        self.orders.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends every open connection and refuses further ones.
    pub(crate) fn down(&self) {
        self.orders.down.store(true, Ordering::SeqCst);
        self.cut(Cut::Reset);
    }

    /// Serves again, after [`Link::down`] or a black hole.
    ///
    /// Connections that a black hole has swallowed bytes of stay swallowed: their stream has a gap. They end with the next cut.
    pub(crate) fn up(&self) {
        self.orders.swallow.store(false, Ordering::SeqCst);
        self.orders.down.store(false, Ordering::SeqCst);
    }

    /// From here on every byte is swallowed, new connections are accepted and swallowed too, and nothing is closed.
    pub(crate) fn black_hole(&self) {
        self.orders.swallow.store(true, Ordering::SeqCst);
    }

    /// Lets so many bytes a second through, in each direction of each connection. Zero: any number.
    pub(crate) fn rate(&self, bytes_per_second: u64) {
        self.orders.bytes_per_second.store(bytes_per_second, Ordering::SeqCst);
    }

    /// Holds each chunk back for so long before it goes on.
    pub(crate) fn delay(&self, delay: Duration) {
        self.orders.delay_ms.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Connections accepted so far, refused ones included.
    pub(crate) fn opened(&self) -> u64 {
        self.orders.opened.load(Ordering::SeqCst)
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> u64 {
        self.orders.open.load(Ordering::SeqCst)
    }

    /// Bytes passed on towards the cloud and back.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.orders.bytes_up.load(Ordering::SeqCst), self.orders.bytes_down.load(Ordering::SeqCst))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.orders.gone.store(true, Ordering::SeqCst);
        self.down();
        // Wakes the accepting thread, which then ends.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn accept(listener: &TcpListener, orders: &Arc<Orders>) {
    for client in listener.incoming() {
        if orders.gone.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        orders.opened.fetch_add(1, Ordering::SeqCst);
        let generation = orders.generation.load(Ordering::SeqCst);
        if orders.down.load(Ordering::SeqCst) {
            end(&client, true);
            continue;
        }
        let orders = Arc::clone(orders);
        std::thread::spawn(move || serve(client, &orders, generation));
    }
}

fn serve(client: TcpStream, orders: &Arc<Orders>, generation: u64) {
    orders.open.fetch_add(1, Ordering::SeqCst);
    let client = Arc::new(client);
    if orders.swallow.load(Ordering::SeqCst) {
        pump(&client, None, orders, generation, &orders.bytes_up);
    } else if let Ok(cloud) = TcpStream::connect(("127.0.0.1", orders.target.load(Ordering::SeqCst))) {
        let cloud = Arc::new(cloud);
        let back = {
            let (client, cloud, orders) = (Arc::clone(&client), Arc::clone(&cloud), Arc::clone(orders));
            std::thread::spawn(move || pump(&cloud, Some(&client), &orders, generation, &orders.bytes_down))
        };
        pump(&client, Some(&cloud), orders, generation, &orders.bytes_up);
        let _ = back.join();
        let reset = orders.generation.load(Ordering::SeqCst) != generation && orders.reset.load(Ordering::SeqCst);
        end(&cloud, reset);
    }
    let reset = orders.generation.load(Ordering::SeqCst) != generation && orders.reset.load(Ordering::SeqCst);
    end(&client, reset);
    orders.open.fetch_sub(1, Ordering::SeqCst);
}

/// Carries bytes one way until either side ends or the connection is cut.
fn pump(from: &TcpStream, to: Option<&TcpStream>, orders: &Orders, generation: u64, passed: &AtomicU64) {
    let mut buffer = vec![0; CHUNK];
    let mut swallowing = to.is_none();
    let _ = from.set_nodelay(true);
    let _ = from.set_read_timeout(Some(LOOK));
    let cut = || orders.generation.load(Ordering::SeqCst) != generation;
    while !cut() {
        // A fiftieth of a second's worth at a time, at least one byte.
        let rate = orders.bytes_per_second.load(Ordering::SeqCst);
        let most = if rate == 0 { CHUNK } else { usize::try_from(rate / 50).unwrap_or(CHUNK).clamp(1, CHUNK) };
        let count = match (&*from).read(&mut buffer[..most]) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => break,
        };
        swallowing |= orders.swallow.load(Ordering::SeqCst);
        let Some(mut to) = to.filter(|_| !swallowing) else { continue };
        let mut pause = Duration::from_millis(orders.delay_ms.load(Ordering::SeqCst));
        if rate > 0 {
            pause += Duration::from_secs_f64(count as f64 / rate as f64);
        }
        std::thread::sleep(pause);
        if cut() || to.write_all(&buffer[..count]).is_err() {
            break;
        }
        passed.fetch_add(count as u64, Ordering::SeqCst);
    }
    // What a black hole has taken never comes out of it, the end neither: the other side is not told that this one is gone.
    swallowing |= orders.swallow.load(Ordering::SeqCst);
    while swallowing && to.is_some() && !cut() {
        std::thread::sleep(LOOK);
    }
    if let Some(to) = to.filter(|_| !cut()) {
        // One side said its end: the other is told, and may still finish its own sentence.
        let _ = to.shutdown(Shutdown::Write);
    }
}

fn end(stream: &TcpStream, reset: bool) {
    if reset {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let length = libc::socklen_t::try_from(size_of::<libc::linger>()).expect("eight bytes");
        // SAFETY: the descriptor is open, and the value is a whole `linger` (socket(7)). Closing then sends RST.
        unsafe {
            libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), length);
        }
    } else {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
