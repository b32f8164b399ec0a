//! The statements on the tables of records: the same for each class, and a constant text each, so that each is prepared once.

use crate::model::Priority;

/// The statements of one class.
pub(super) struct Texts {
    pub(super) push: &'static str,
    /// The same for a record with a number of its own, which may be there already.
    pub(super) bring: &'static str,
    pub(super) after: &'static str,
    pub(super) record: &'static str,
    pub(super) remove: &'static str,
    pub(super) restamp: &'static str,
    pub(super) keep_payloads: &'static str,
    pub(super) head: &'static str,
    pub(super) last: &'static str,
    pub(super) count: &'static str,
    pub(super) letter: &'static str,
    pub(super) bury: &'static str,
    pub(super) waiting: &'static str,
    pub(super) waiting_after: &'static str,
    pub(super) size: &'static str,
    pub(super) whose: &'static str,
}

/// What [`super::record`] reads.
macro_rules! columns {
    () => {
        "seq, qos, retain, ts_ms, synced, exp_ms, topic, props, payload, up_ms, stamp_ms, rule"
    };
}

macro_rules! texts {
    ($table:literal, $class:literal) => {
        Texts {
            push: concat!(
                "INSERT INTO ",
                $table,
                "(",
                columns!(),
                ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"
            ),
            bring: concat!(
                "INSERT OR IGNORE INTO ",
                $table,
                "(",
                columns!(),
                ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, NULL, NULL, ?10)"
            ),
            after: concat!(
                "SELECT ",
                columns!(),
                " FROM ",
                $table,
                " WHERE seq > ?1 AND seq < ?2 ORDER BY seq LIMIT ?3"
            ),
            record: concat!("SELECT ", columns!(), " FROM ", $table, " WHERE seq = ?1"),
            remove: concat!("DELETE FROM ", $table, " WHERE seq = ?1"),
            restamp: concat!("UPDATE ", $table, " SET payload = ?2, stamp_ms = NULL WHERE seq = ?1"),
            keep_payloads: concat!(
                "UPDATE ",
                $table,
                " SET stamp_ms = NULL WHERE seq IN (SELECT seq FROM inflight WHERE class = ",
                $class,
                ") AND stamp_ms IS NOT NULL"
            ),
            head: concat!("SELECT seq, ts_ms, synced, up_ms FROM ", $table, " ORDER BY seq LIMIT 1"),
            last: concat!("SELECT max(seq) FROM ", $table),
            count: concat!(
                "SELECT count(*), max(seq) FROM (SELECT seq FROM ",
                $table,
                " WHERE seq > ?1 AND seq < ?2 ORDER BY seq LIMIT ?3)"
            ),
            letter: concat!(
                "SELECT ts_ms, synced, up_ms, length(CAST(topic AS BLOB)) + length(payload) FROM ",
                $table,
                " WHERE seq = ?1"
            ),
            bury: concat!(
                "INSERT OR REPLACE INTO dead(seq, class, cause, at_ms, qos, retain, ts_ms, synced, exp_ms, topic, props, payload, up_ms, rule) ",
                "SELECT seq, ",
                $class,
                ", ?2, ?3, qos, retain, ts_ms, synced, exp_ms, topic, props, payload, up_ms, rule FROM ",
                $table,
                " WHERE seq = ?1"
            ),
            waiting: concat!(
                "SELECT seq, ts_ms, synced, up_ms FROM ",
                $table,
                " WHERE seq NOT IN (SELECT seq FROM inflight) ORDER BY seq LIMIT ?1"
            ),
            waiting_after: concat!(
                "SELECT seq, ts_ms, synced, up_ms, rule, topic, length(CAST(topic AS BLOB)) + length(payload) FROM ",
                $table,
                " WHERE seq > ?1 AND seq NOT IN (SELECT seq FROM inflight) ORDER BY seq LIMIT ?2"
            ),
            whose: concat!(
                "SELECT rule, length(CAST(topic AS BLOB)) + length(payload) FROM ",
                $table,
                " WHERE seq = ?1"
            ),
            size: concat!("SELECT qos, length(CAST(topic AS BLOB)) + length(payload) FROM ", $table, " WHERE seq = ?1"),
        }
    };
}

static TEXTS: [Texts; 4] = [texts!("q0", "0"), texts!("q1", "1"), texts!("q2", "2"), texts!("q3", "3")];

/// The statements of a class.
pub(super) fn of(priority: Priority) -> &'static Texts {
    &TEXTS[priority.index()]
}

/// The columns of the records of all classes behind number `?1`, by number, `?2` at most: a merge of four walks along the keys, not a sort.
/// `{class}` stands for the class.
pub(in crate::store) fn of_all_classes(columns: &str, and: &str) -> String {
    let class = |class: usize| {
        let class = class.to_string();
        format!("SELECT {} FROM q{class} WHERE seq > ?1{and}", columns.replace("{class}", &class))
    };
    let classes: Vec<String> = (0..TEXTS.len()).map(class).collect();
    format!("{} ORDER BY seq LIMIT ?2", classes.join(" UNION ALL "))
}
