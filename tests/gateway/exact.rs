//! QoS 2 from local publishers with sessions to the cloud, once, whatever a kill or a power cut leaves of the two files between them: the broker's
//! sessions, and the outbox.

use std::time::Duration;

use crate::support::crowd::{Crowd, Size, Tale, Talk};
use crate::support::disk::Call;
use crate::support::receiver::wire::{PUBCOMP, PUBLISH, PUBREC, PUBREL, Publish, acknowledged};
use crate::support::receiver::{Receiver, Sent, Terms, Verdict};
use crate::support::{Disk, Gateway, wait_for, wait_until};

const CONFIG: &str = r#"
[gateway]
id = "box"
state_dir = "@state@"

[broker]
listen = "@listen@"
max_queued = 1000000

[[bridge]]
id = "cloud"
url = "@cloud@"
reconnect = { min = "100ms", max = "200ms" }
out = [ { from = "data/#" } ]
"#;

const PATIENCE: Duration = Duration::from_secs(30);

fn publish(talk: &mut Talk, topic: &str, id: u16, payload: &str, dup: bool) {
    let (topic, payload) = (topic.to_owned(), payload.as_bytes().to_vec());
    let bytes = Publish { topic, qos: 2, dup, retain: false, id, payload }.bytes();
    // Packet type and flags, and behind the length what it is made of.
    talk.say(PUBLISH, bytes[0] & 0x0f, &bytes[2..]).unwrap();
}

fn expect(talk: &mut Talk, kind: u8, id: u16) {
    let answer = talk.answer().expect("an answer");
    assert_eq!((answer.kind, acknowledged(&answer)), (kind, Ok(id)), "{answer:?}");
}

/// From the PUBLISH, which has been sent, to the PUBCOMP.
fn hand_over(talk: &mut Talk, id: u16) {
    expect(talk, PUBREC, id);
    talk.say(PUBREL, 2, &id.to_be_bytes()).unwrap();
    expect(talk, PUBCOMP, id);
}

/// What has become of the broker's own file when the process dies, while the outbox has the message.
#[derive(Debug, Clone, Copy)]
enum Sessions {
    /// It took nothing.
    Refused,
    /// It was written and not flushed, and a kill takes nothing of that.
    Written,
    /// The same, and the power takes it.
    Unflushed,
}

#[test]
fn a_message_that_is_in_the_outbox_and_was_not_acknowledged_goes_up_once_and_its_packet_id_serves_again() {
    for fate in [Sessions::Refused, Sessions::Written, Sessions::Unflushed] {
        println!("{fate:?}");
        let cloud = Receiver::start(Terms::default(), 1);
        let disk = Disk::new();
        disk.keep_shadow();
        let mut gateway = Gateway::new(CONFIG, &[("cloud", &cloud.url())]).on_disk(&disk);
        gateway.start();
        let (mut talk, _) = Talk::open(gateway.door().port, "pub").unwrap();
        disk.only("sessions.db");
        match fate {
            Sessions::Refused => disk.fail(&[Call::Write], libc::EIO),
            Sessions::Written | Sessions::Unflushed => disk.slow_sync(PATIENCE),
        }
        publish(&mut talk, "data/exact", 7, "1", false);
        let sent = [Sent::new("data/exact", 2, 1..=1)];
        wait_until(PATIENCE, "the cloud has it", || cloud.arrived(&sent) == 1);
        assert!(!matches!(talk.look(), Ok(Some(_))), "it is not acknowledged");
        gateway.kill();
        if matches!(fate, Sessions::Unflushed) {
            disk.cut_power(&gateway.dir().join("state"));
            disk.keep_shadow();
        }
        disk.heal();
        disk.slow_sync(Duration::ZERO);
        disk.only("");
        gateway.start();

        let (mut talk, present) = Talk::open(gateway.door().port, "pub").unwrap();
        assert!(present);
        publish(&mut talk, "data/exact", 7, "1", true);
        hand_over(&mut talk, 7);
        // What says the same under the same packet id is another message, whenever the process dies after the PUBCOMP.
        for _ in 0..3 {
            publish(&mut talk, "data/same", 7, "x", false);
            hand_over(&mut talk, 7);
            gateway.kill();
            gateway.start();
            talk = Talk::open(gateway.door().port, "pub").unwrap().0;
        }
        publish(&mut talk, "data/exact", 7, "2", false);
        hand_over(&mut talk, 7);
        let sent = [Sent::new("data/exact", 2, 1..=2)];
        wait_until(PATIENCE, "the cloud has all", || cloud.arrived(&sent) == 2);
        assert_eq!(cloud.verdict(&sent), Verdict::faultless(0));
        let same = cloud.accepted().iter().filter(|message| message.topic == "data/same").count();
        assert_eq!(same, 3, "each of those that say the same");
    }
}

/// How a bridge comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Killed,
    Reloaded,
}

fn change(gateway: &mut Gateway, change: Change, config: &str) {
    gateway.configure(config);
    if change == Change::Killed {
        gateway.kill();
        gateway.start();
    } else {
        let mark = gateway.log().len();
        gateway.reload();
        gateway.wait_for_log(PATIENCE, mark, &["config reloaded"]);
    }
}

#[test]
fn a_bridge_that_was_away_when_a_packet_id_became_free_takes_what_comes_under_it_for_a_new_message() {
    use Change::{Killed, Reloaded};
    let away = CONFIG.split_once("[[bridge]]").unwrap().0;
    for (goes, comes) in [(Killed, Killed), (Reloaded, Killed), (Reloaded, Reloaded), (Killed, Reloaded)] {
        println!("{goes:?}, {comes:?}");
        let cloud = Receiver::start(Terms::default(), 1);
        let mut gateway = Gateway::new(CONFIG, &[("cloud", &cloud.url())]);
        gateway.start();
        let connect = |gateway: &Gateway| Talk::open(gateway.door().port, "pub").unwrap();
        let (mut talk, _) = connect(&gateway);
        publish(&mut talk, "data/same", 7, "x", false);
        expect(&mut talk, PUBREC, 7);
        change(&mut gateway, goes, away);
        let (mut talk, present) = connect(&gateway);
        assert!(present);
        talk.say(PUBREL, 2, &7_u16.to_be_bytes()).unwrap();
        expect(&mut talk, PUBCOMP, 7);
        change(&mut gateway, comes, CONFIG);
        let (mut talk, _) = connect(&gateway);
        publish(&mut talk, "data/same", 7, "x", false);
        hand_over(&mut talk, 7);
        let same = || cloud.accepted().iter().filter(|message| message.topic == "data/same").count();
        wait_until(PATIENCE, "the cloud has both", || same() == 2);
    }
}

#[test]
fn ten_kills_under_load_lose_and_double_nothing_here_nor_at_the_cloud() {
    let cloud = Receiver::start(Terms::default(), 1);
    let mut gateway = Gateway::new(CONFIG, &[("cloud", &cloud.url())]);
    gateway.start();
    let size = Size { subscribers: 2, publishers: 2, pace: Duration::from_millis(2) };
    let crowd = Crowd::gather(gateway.door().port, size, 1);
    let mut random = fastrand::Rng::with_seed(1);
    for n in 1..=10 {
        let before = crowd.acknowledged();
        wait_for(PATIENCE, "messages to be acknowledged", || {
            let now = crowd.acknowledged();
            if now > before + 100 { Ok(()) } else { Err(format!("{now} after {before}, blow {n}")) }
        });
        std::thread::sleep(Duration::from_millis(random.u64(0..100)));
        gateway.kill();
        gateway.start();
    }
    let (tale, sent) = crowd.settle_all(PATIENCE);
    println!("{tale:?}");
    let Tale { lost, doubled, out_of_order, forgotten, .. } = tale;
    assert_eq!([lost, doubled, out_of_order, forgotten], [0; 4], "lost, doubled, out of order, sessions forgotten");
    wait_until(PATIENCE, "the cloud has everything", || cloud.arrived(&sent) == tale.acknowledged);
    let verdict = cloud.verdict(&sent);
    println!("at the cloud: {verdict:?}");
    assert_eq!((verdict.lost, verdict.doubled, verdict.ids_reused), (0, 0, 0), "{verdict:?}");
}
