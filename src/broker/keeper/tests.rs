use super::restore::restore_retained;
use super::*;
use crate::clock::{FakeClock, SystemClock};
use crate::model::{Origin, Properties, Qos, Timestamp, TopicName};
use crate::store::RetainedRow;
use std::time::Duration;

fn message(topic: &str, payload: &str) -> Arc<Message> {
    let topic = TopicName::parse(topic).unwrap();
    Arc::new(Message::new(topic, payload.as_bytes(), Qos::AtLeastOnce, true, Origin::Client))
}

async fn open(directory: &Path) -> (Keeper, Vec<String>) {
    let (keeper, past) = Keeper::open(directory, SystemClock::shared(), &Health::new()).await.unwrap();
    let mut found: Vec<_> = past
        .retained
        .iter()
        .map(|found| format!("{}={}", found.message.topic, String::from_utf8_lossy(&found.message.payload)))
        .collect();
    found.sort();
    (keeper, found)
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill_and_what_had_time_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let (keeper, found) = open(directory.path()).await;
    assert!(found.is_empty());
    assert!(keeper.note(&message("lazy", "1"), Outcome::Kept, Urgency::Lazy).is_none());
    keeper.note(&message("a", "1"), Outcome::Kept, Urgency::Now).unwrap().await.unwrap();
    keeper.note(&message("b", "1"), Outcome::Kept, Urgency::Now).unwrap().await.unwrap();
    keeper.note(&message("a", ""), Outcome::Cleared, Urgency::Now).unwrap().await.unwrap();
    keeper.kill().await;
    let (keeper, found) = open(directory.path()).await;
    assert_eq!(found, ["b=1"]);
    keeper.stop().await;
}

#[tokio::test]
async fn a_stop_writes_what_had_time() {
    let directory = tempfile::tempdir().unwrap();
    let (keeper, _) = open(directory.path()).await;
    keeper.note(&message("lazy", "1"), Outcome::Kept, Urgency::Lazy);
    keeper.note(&message("lazy", "2"), Outcome::Kept, Urgency::Lazy);
    keeper.note(&message("never", "1"), Outcome::Kept, Urgency::Never);
    keeper.note(&message("$SYS/x", "1"), Outcome::Kept, Urgency::Lazy);
    keeper.note(&message("$x/y", "1"), Outcome::Kept, Urgency::Lazy);
    keeper.stop().await;
    let (keeper, found) = open(directory.path()).await;
    assert_eq!(found, ["$x/y=1", "lazy=2"]);
    keeper.stop().await;
}

#[tokio::test]
async fn a_clear_of_what_is_cleared_waits_for_the_commit_that_clears_it() {
    let directory = tempfile::tempdir().unwrap();
    let (keeper, _) = open(directory.path()).await;
    keeper.note(&message("a", "1"), Outcome::Kept, Urgency::Now).unwrap().await.unwrap();
    keeper.note(&message("a", ""), Outcome::Cleared, Urgency::Lazy);
    assert!(keeper.note(&message("a", ""), Outcome::Nothing, Urgency::Now).is_some());
    keeper.stop().await;
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_the_broker_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("sessions.db"), [0x55; 9_000]).unwrap();
    let (keeper, found) = open(directory.path()).await;
    assert!(found.is_empty());
    keeper.note(&message("a", "1"), Outcome::Kept, Urgency::Now).unwrap().await.unwrap();
    keeper.stop().await;
    assert_eq!(open(directory.path()).await.1, ["a=1"]);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_does_not_keep_the_broker_from_starting_and_is_used_once_it_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.db");
    let (keeper, _) = open(directory.path()).await;
    keeper.note(&message("kept", "1"), Outcome::Kept, Urgency::Now).unwrap().await.unwrap();
    keeper.stop().await;
    std::fs::rename(&path, directory.path().join("before.db")).unwrap();
    std::fs::create_dir(&path).unwrap();
    let (keeper, found) = open(directory.path()).await;
    assert!(found.is_empty());
    let refused = keeper.note(&message("a", "1"), Outcome::Kept, Urgency::Now).unwrap().await;
    assert!(matches!(refused, Err(Broken::Store(_))), "{refused:?}");
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(directory.path().join("before.db"), &path).unwrap();
    keeper.note(&message("b", "1"), Outcome::Kept, Urgency::Now).unwrap().await.unwrap();
    keeper.stop().await;
    assert_eq!(open(directory.path()).await.1, ["a=1", "b=1", "kept=1"]);
}

#[test]
fn what_is_left_of_a_life_is_never_more_than_it_had() {
    let block = properties::to_block(&Properties { expiry_s: Some(60), ..Properties::default() });
    let row = RetainedRow {
        topic: "a",
        qos: Qos::AtMostOnce,
        expires_ms: Some(1_000_000),
        properties: Some(&block),
        payload: b"1",
    };
    let left = |now_ms| {
        let clock = FakeClock::new(now_ms);
        restore_retained(&row, &clock).map(|found| found.expires.unwrap() - clock.now())
    };
    assert_eq!(left(990_000), Some(Duration::from_secs(10)));
    assert_eq!(left(0), Some(Duration::from_secs(60)));
    assert_eq!(left(1_000_000), None);
    let clock = FakeClock::new(0);
    clock.set_wall(Timestamp { unix_ms: 2_222_208_000_000, synced: false, at: None });
    let life = restore_retained(&row, &clock).unwrap().expires.unwrap() - clock.now();
    assert_eq!(life, Duration::from_secs(60), "a clock that is not set ends nothing");
}

#[tokio::test]
async fn what_is_retained_for_a_minute_by_a_clock_that_is_not_set_has_it_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let clock = FakeClock::new(2_222_208_000_000);
    let health = Health::new();
    let open = || Keeper::open(directory.path(), Arc::new(clock.clone()), &health);
    let of = |synced, unix_ms| clock.set_wall(Timestamp { unix_ms, synced, at: None });
    of(false, 2_222_208_000_000);
    let (keeper, _) = open().await.unwrap();
    let mut kept = (*message("a", "1")).clone();
    kept.properties = Some(Arc::new(Properties { expiry_s: Some(60), ..Properties::default() }));
    keeper.note(&Arc::new(kept), Outcome::Kept, Urgency::Now).unwrap().await.unwrap();
    keeper.kill().await;
    for (synced, unix_ms) in [(false, 2_300_000_000_000), (true, 1_795_000_000_000)] {
        of(synced, unix_ms);
        let (keeper, past) = open().await.unwrap();
        let left: Vec<_> = past.retained.iter().map(|found| found.expires.unwrap() - clock.now()).collect();
        assert_eq!(left, [Duration::from_secs(60)]);
        keeper.kill().await;
    }
}

#[tokio::test]
async fn damage_that_is_found_at_the_end_costs_the_file_and_nothing_that_is_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let (keeper, _) = open(directory.path()).await;
    keeper.note(&message("a", "1"), Outcome::Kept, Urgency::Now).unwrap().await.unwrap();
    keeper.note(&message("lazy", "1"), Outcome::Kept, Urgency::Lazy);
    crate::store::sessions::damage(&directory.path().join("sessions.db"), "retained");
    keeper.stop().await;
    // Nobody is at home here to say again what was written before.
    assert_eq!(open(directory.path()).await.1, ["lazy=1"]);
}
