//! A connection's loop over streams that a test holds in its hands.

use tokio::io::{BufWriter, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket};

use super::super::core::Core;
use super::super::fanout::Trie;
use super::super::keeper::Keeper;
use super::super::probes::harness::{self, NoUplink, PATIENCE};
use super::*;
use crate::broker::{PasswordHash, Rights, Routing, Settings, User};
use crate::clock::SystemClock;

/// A writer that keeps everything until it is flushed, as TLS and WebSockets may.
type Holding = BufWriter<WriteHalf<DuplexStream>>;

fn shared(settings: Settings) -> Arc<Shared> {
    let core = Core::new(Box::new(Trie::default()), settings.max_retained_bytes);
    Shared::new(settings, None, core, Keeper::default(), Arc::new(NoUplink), SystemClock::shared())
}

fn arrival(live: &Arc<Live>) -> Arrival {
    let place = live.settings.places()[0];
    Arrival {
        peer: "127.0.0.1:5".parse().unwrap(),
        place,
        under: live.clone(),
        user: None,
        allowance: None,
        backlog: None,
    }
}

fn decoded(bytes: &[u8]) -> Connect {
    let header = framing::header(bytes, usize::MAX).unwrap().unwrap();
    server::decode_connect(header, &bytes[header.header_len..]).unwrap()
}

/// A client that is connected, and has sent a PINGREQ.
fn over<R, W>(reader: R, writer: W) -> Line<R, W> {
    let shared = shared(harness::settings(Routing::Trie));
    let connect = decoded(&harness::connect(Version::V5, "c", 0x02, &[], &[]));
    let live = shared.live();
    let entry = arrival(&live).entry();
    let access = Arc::new(Access::All);
    let (mut conversation, wake, _) = open(&shared, &connect, &"c".into(), access, &live, entry).unwrap();
    conversation.output = Output::default();
    let input = Input::from(BytesMut::from(&[0xc0, 0][..]));
    let keep_alive = Duration::ZERO;
    let taking = Taking::new(limits::WRITE_STALL_MAX, shared.clock.now());
    let backlog = None;
    Line { shared, conversation, reader, writer, input, unflushed: false, keep_alive, wake, taking, backlog }
}

/// The same, and its other end.
fn line() -> (Line<ReadHalf<DuplexStream>, Holding>, DuplexStream) {
    let (peer, ours) = tokio::io::duplex(1 << 10);
    let (reader, writer) = tokio::io::split(ours);
    (over(reader, BufWriter::new(writer)), peer)
}

#[tokio::test]
async fn a_client_that_takes_little_is_waited_for_and_one_that_takes_nothing_is_not() {
    const LONGEST: Duration = Duration::from_secs(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpSocket::new_v4().unwrap();
    // What the client's kernel takes for it is little beside what ours takes.
    peer.set_recv_buffer_size(16 << 10).unwrap();
    let mut peer = peer.connect(listener.local_addr().unwrap()).await.unwrap();
    let (ours, _) = listener.accept().await.unwrap();
    let backlog = Some(Backlog::of(&ours));
    let (reader, writer) = ours.into_split();
    let mut line = over(reader, writer);
    line.backlog = backlog;
    line.taking = Taking::new(LONGEST, line.shared.clock.now());
    line.conversation.output.share(vec![7; 64 << 20].into());
    let began = tokio::time::Instant::now();
    let mut taken = 0;
    let reading = async {
        let mut bytes = [0; 1 << 10];
        while began.elapsed() < 3 * LONGEST {
            taken += peer.read(&mut bytes).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut running = std::pin::pin!(line.run());
    tokio::select! {
        cut = &mut running => panic!("{cut:?} after {:?}", began.elapsed()),
        () = reading => {}
    }
    assert!(taken < 1 << 20, "no more than our kernel had taken at once: {taken}");
    let cut = tokio::time::timeout(PATIENCE, running).await.expect("it ends");
    assert!(matches!(cut, Err(Cut::Stalled)), "{cut:?}");
}

#[tokio::test]
async fn nothing_more_is_heard_once_the_broker_stops() {
    let (mut line, _peer) = line();
    line.shared.stopping.cancel();
    let cut = tokio::time::timeout(PATIENCE, line.run()).await.expect("it ends");
    assert!(matches!(cut, Err(Cut::Stopping)), "{cut:?}");
    assert!(line.conversation.output.is_empty());
}

#[tokio::test]
async fn a_login_that_a_reload_overtook_opens_nothing() {
    let settings = harness::settings(Routing::Trie);
    let shared = shared(settings.clone());
    let connect = decoded(&harness::connect(Version::V5, "c", 0x02, &[], &[]));
    let judged_by = shared.live();
    shared.put_live(settings, None);
    let open_by = |live: &Arc<Live>| {
        let entry = arrival(live).entry();
        open(&shared, &connect, &"c".into(), Arc::new(Access::All), live, entry).map(drop)
    };
    assert_eq!(open_by(&judged_by), Err(Reason::ServerBusy));
    assert_eq!(open_by(&shared.live()), Ok(()));
}

#[tokio::test]
async fn what_the_stream_holds_back_is_flushed_when_there_is_no_more_to_say() {
    let (mut line, mut peer) = line();
    let mut answer = [0; 2];
    tokio::select! {
        cut = line.run() => panic!("{cut:?}"),
        read = tokio::time::timeout(PATIENCE, peer.read_exact(&mut answer)) => drop(read.expect("an answer").unwrap()),
    }
    assert_eq!(answer, [0xd0, 0]);
}

#[tokio::test]
async fn a_client_whose_login_waits_too_long_is_told_that_the_server_is_busy() {
    let hash = "$argon2id$v=19$m=64,t=1,p=1$c2FsdC1zYWx0$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let hash = Some(PasswordHash(hash.into()));
    let users = vec![User { name: "ha".into(), hash, rights: Rights::default() }];
    let mut shared = shared(Settings { users, ..harness::settings(Routing::Trie) });
    // Nobody's turn comes.
    Arc::get_mut(&mut shared).unwrap().door.patience = Duration::ZERO;
    let held = shared.door.hold().await;
    let connect = decoded(&harness::connect(Version::V5, "c", 0xc2, &[], b"\0\x02ha\0\x01x"));
    let arrival = arrival(&shared.live());
    let outcome = judge(&shared, &connect, &arrival).await;
    assert_eq!(outcome.err(), Some(Reason::ServerBusy));
    drop(held);
}
