//! A connection's loop over streams that a test holds in its hands.

use tokio::io::{BufWriter, DuplexStream, ReadHalf, WriteHalf};

use super::super::core::Core;
use super::super::fanout::Trie;
use super::super::keeper::Keeper;
use super::super::probes::harness::{self, NoUplink, PATIENCE};
use super::*;
use crate::broker::Routing;
use crate::clock::SystemClock;

/// A writer that keeps everything until it is flushed, as TLS and WebSockets may.
type Holding = BufWriter<WriteHalf<DuplexStream>>;

/// A client that is connected and has sent a PINGREQ, and its other end.
fn line() -> (Line<ReadHalf<DuplexStream>, Holding>, DuplexStream) {
    let settings = harness::settings(Routing::Trie);
    let core = Core::new(Box::new(Trie::default()), settings.max_retained_bytes);
    let shared = Shared::new(settings, None, core, Keeper::default(), Arc::new(NoUplink), SystemClock::shared());
    let bytes = harness::connect(Version::V5, "c", 0x02, &[], &[]);
    let header = framing::header(&bytes, usize::MAX).unwrap().unwrap();
    let connect = server::decode_connect(header, &bytes[header.header_len..]).unwrap();
    let live = shared.live();
    let (mut conversation, wake) = open(&shared, &connect, &"c".into(), Arc::new(Access::All), &live).unwrap();
    conversation.output.clear();
    let (peer, ours) = tokio::io::duplex(1 << 10);
    let (reader, writer) = tokio::io::split(ours);
    let input = BytesMut::from(&[0xc0, 0][..]);
    let (writer, keep_alive) = (BufWriter::new(writer), Duration::ZERO);
    (Line { shared, conversation, reader, writer, input, unflushed: false, keep_alive, wake }, peer)
}

#[tokio::test]
async fn nothing_more_is_heard_once_the_broker_stops() {
    let (mut line, _peer) = line();
    line.shared.stopping.cancel();
    let cut = tokio::time::timeout(PATIENCE, line.run()).await.expect("it ends");
    assert!(matches!(cut, Err(Cut::Stopping)), "{cut:?}");
    assert_eq!(line.conversation.output, b""[..]);
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
