//! The rows of sessions: who they are, what they subscribe to, what waits for them.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::Sessions;
use crate::model::Qos;
use crate::store::StoreError;

/// A session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRow<'a> {
    /// Never that of another one.
    pub id: i64,
    /// Client id.
    pub client: &'a str,
    /// User name.
    pub user: Option<&'a str>,
    /// The gateway whose bridge the client is.
    pub peer: Option<&'a str>,
    /// Seconds it outlives its connection; `u32::MAX` for ever.
    pub expiry_s: u32,
    /// Wall clock in milliseconds when its connection ended, if it did and that clock was set.
    pub left_ms: Option<i64>,
}

/// A subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionRow<'a> {
    /// Whose.
    pub session: i64,
    /// Filter as it was asked for.
    pub asked: &'a str,
    /// Most that is delivered.
    pub qos: Qos,
    /// Not what the client itself publishes.
    pub no_local: bool,
    /// With the retain flag as it was published.
    pub retain_as_published: bool,
    /// Whether retained messages are still to be sent for it.
    pub hungry: bool,
    /// While they are: the topic of the last one that is on its way.
    pub after: Option<&'a str>,
    /// Its identifier.
    pub identifier: Option<u32>,
}

/// A message that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyRow<'a> {
    /// Its number.
    pub id: i64,
    /// QoS it was published with.
    pub qos: Qos,
    /// Whether it was published to be retained.
    pub retain: bool,
    /// Wall clock in milliseconds when it stops being worth sending, where that clock was set.
    pub expires_ms: Option<i64>,
    /// Topic.
    pub topic: &'a str,
    /// MQTT 5 properties as on the wire, length in front.
    pub properties: Option<&'a [u8]>,
    /// Payload.
    pub payload: &'a [u8],
}

/// Under which packet id a message is on the wire, or about to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnWire {
    /// Packet id.
    pub packet_id: u16,
    /// Rises in the order of sending.
    pub turn: i64,
}

/// A message in the queue of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuedRow<'a> {
    /// Whose.
    pub session: i64,
    /// Its place.
    pub row: i64,
    /// Which; `None` once the client has it.
    pub body: Option<i64>,
    /// QoS of the delivery.
    pub qos: Qos,
    /// Retain flag to send.
    pub retain: bool,
    /// Subscription identifiers, four bytes each.
    pub ids: Option<&'a [u8]>,
    /// The shared subscription that alone brings it.
    pub share: Option<&'a str>,
    /// What it is sent under.
    pub sent: Option<OnWire>,
}

/// A change of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionChange<'a> {
    /// It is over: nothing of it is left but the bodies.
    Ended(i64),
    /// It is there, like this.
    Session(SessionRow<'a>),
    /// It has this subscription.
    Subscribed(SubscriptionRow<'a>),
    /// It has not.
    Unsubscribed(i64, &'a str),
    /// A message waits.
    Body(BodyRow<'a>),
    /// It waits in no queue any more.
    BodyGone(i64),
    /// It waits here.
    Queued(QueuedRow<'a>),
    /// What waits there is sent under this packet id; `released`: and the client has it.
    Sent(i64, i64, OnWire, bool),
    /// It does not wait there any more.
    Gone(i64, i64),
    /// The client has sent a QoS 2 message under this packet id.
    Received(i64, u16),
    /// It has released it.
    Forgotten(i64, u16),
    /// From here on packet ids become free in this era ([`crate::model::Era`]).
    Era(i64),
}

const NO_LOCAL: i64 = 4;
const RETAIN: i64 = 8;
const HUNGRY: i64 = 16;

fn flag(set: bool, flag: i64) -> i64 {
    if set { flag } else { 0 }
}

pub(super) fn write<'a>(
    transaction: &Transaction<'_>,
    changes: impl IntoIterator<Item = SessionChange<'a>>,
) -> rusqlite::Result<()> {
    for change in changes {
        let run = |sql, params: &[&dyn rusqlite::ToSql]| transaction.prepare_cached(sql)?.execute(params);
        match change {
            SessionChange::Ended(id) => {
                run("DELETE FROM session WHERE id = ?1", params![id])?;
                run("DELETE FROM subscription WHERE session = ?1", params![id])?;
                run("DELETE FROM queued WHERE session = ?1", params![id])?;
                run("DELETE FROM received WHERE session = ?1", params![id])?
            }
            SessionChange::Session(row) => run(
                "INSERT INTO session(id, client, user, peer, expiry_s, left_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT(id) DO UPDATE SET peer = ?4, expiry_s = ?5, left_ms = ?6",
                params![row.id, row.client, row.user, row.peer, row.expiry_s, row.left_ms],
            )?,
            SessionChange::Subscribed(row) => {
                let options = i64::from(row.qos.level())
                    | flag(row.no_local, NO_LOCAL)
                    | flag(row.retain_as_published, RETAIN)
                    | flag(row.hungry, HUNGRY);
                run(
                    "INSERT OR REPLACE INTO subscription(session, asked, options, identifier, after) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![row.session, row.asked, options, row.identifier, row.after],
                )?
            }
            SessionChange::Unsubscribed(session, asked) => {
                run("DELETE FROM subscription WHERE session = ?1 AND asked = ?2", params![session, asked])?
            }
            SessionChange::Body(row) => run(
                "INSERT OR REPLACE INTO body(id, qos, retain, exp_ms, topic, props, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![row.id, row.qos.level(), row.retain, row.expires_ms, row.topic, row.properties, row.payload],
            )?,
            SessionChange::BodyGone(id) => run("DELETE FROM body WHERE id = ?1", params![id])?,
            SessionChange::Queued(row) => run(
                "INSERT OR REPLACE INTO queued(session, row, body, options, ids, share, pkid, turn) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    row.session,
                    row.row,
                    row.body,
                    i64::from(row.qos.level()) | flag(row.retain, RETAIN),
                    row.ids,
                    row.share,
                    row.sent.map(|sent| sent.packet_id),
                    row.sent.map(|sent| sent.turn)
                ],
            )?,
            SessionChange::Sent(session, row, sent, released) => run(
                "UPDATE queued SET pkid = ?3, turn = ?4, body = iif(?5, NULL, body) WHERE session = ?1 AND row = ?2",
                params![session, row, sent.packet_id, sent.turn, released],
            )?,
            SessionChange::Gone(session, row) => {
                run("DELETE FROM queued WHERE session = ?1 AND row = ?2", params![session, row])?
            }
            SessionChange::Received(session, id) => {
                run("INSERT OR REPLACE INTO received(session, pkid) VALUES (?1, ?2)", params![session, id])?
            }
            SessionChange::Forgotten(session, id) => {
                run("DELETE FROM received WHERE session = ?1 AND pkid = ?2", params![session, id])?
            }
            SessionChange::Era(era) => run("INSERT OR REPLACE INTO meta(k, v) VALUES ('era', ?1)", params![era])?,
        };
    }
    Ok(())
}

/// What is read of a row is what was written, or the file is damaged.
type Read<T> = Result<T, &'static str>;

fn qos(row: &Row<'_>, index: usize) -> rusqlite::Result<Read<(Qos, i64)>> {
    let options: i64 = row.get(index)?;
    let qos = u8::try_from(options & 3).ok().and_then(Qos::from_level);
    Ok(qos.map(|qos| (qos, options)).ok_or("a QoS above 2"))
}

impl Sessions {
    fn each<'s>(
        &'s self,
        sql: &str,
        mut show: impl FnMut(&Row<'_>) -> rusqlite::Result<Read<()>>,
    ) -> Result<(), StoreError> {
        let connection: &'s Connection = self.store.connection();
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            show(row)?.map_err(|reason| self.damaged(reason))?;
        }
        Ok(())
    }

    /// Shows every session.
    ///
    /// # Errors
    /// [`StoreError`]; damage among them. So of those that follow.
    pub fn each_session(&self, mut show: impl FnMut(SessionRow<'_>)) -> Result<(), StoreError> {
        self.each("SELECT id, client, user, peer, expiry_s, left_ms FROM session", |row| {
            let (Ok(client), Ok(user), Ok(peer)) =
                (row.get_ref(1)?.as_str(), row.get_ref(2)?.as_str_or_null(), row.get_ref(3)?.as_str_or_null())
            else {
                return Ok(Err("a client id or a name is no text"));
            };
            let (id, expiry_s, left_ms) = (row.get(0)?, row.get(4)?, row.get(5)?);
            show(SessionRow { id, client, user, peer, expiry_s, left_ms });
            Ok(Ok(()))
        })
    }

    /// Shows every subscription.
    ///
    /// # Errors
    /// As above.
    pub fn each_subscription(&self, mut show: impl FnMut(SubscriptionRow<'_>)) -> Result<(), StoreError> {
        self.each("SELECT session, asked, options, identifier, after FROM subscription", |row| {
            let (Ok(asked), Ok((qos, options)), Ok(after)) =
                (row.get_ref(1)?.as_str(), qos(row, 2)?, row.get_ref(4)?.as_str_or_null())
            else {
                return Ok(Err("a subscription is none"));
            };
            let has = |flag| options & flag != 0;
            show(SubscriptionRow {
                session: row.get(0)?,
                asked,
                qos,
                no_local: has(NO_LOCAL),
                retain_as_published: has(RETAIN),
                hungry: has(HUNGRY),
                after,
                identifier: row.get(3)?,
            });
            Ok(Ok(()))
        })
    }

    /// Shows every message that waits.
    ///
    /// # Errors
    /// As above.
    pub fn each_body(&self, mut show: impl FnMut(BodyRow<'_>)) -> Result<(), StoreError> {
        self.each("SELECT id, qos, retain, exp_ms, topic, props, payload FROM body", |row| {
            let (Ok(topic), Ok(properties), Ok(payload), Ok((qos, _))) = (
                row.get_ref(4)?.as_str(),
                row.get_ref(5)?.as_bytes_or_null(),
                row.get_ref(6)?.as_bytes(),
                qos(row, 1)?,
            ) else {
                return Ok(Err("a message is none"));
            };
            let (id, retain, expires_ms) = (row.get(0)?, row.get(2)?, row.get(3)?);
            show(BodyRow { id, qos, retain, expires_ms, topic, properties, payload });
            Ok(Ok(()))
        })
    }

    /// Shows every queue, each in its order.
    ///
    /// # Errors
    /// As above.
    pub fn each_queued(&self, mut show: impl FnMut(QueuedRow<'_>)) -> Result<(), StoreError> {
        let sql = "SELECT session, row, body, options, ids, share, pkid, turn FROM queued ORDER BY session, row";
        self.each(sql, |row| {
            let (Ok((qos, options)), Ok(ids), Ok(share)) =
                (qos(row, 3)?, row.get_ref(4)?.as_bytes_or_null(), row.get_ref(5)?.as_str_or_null())
            else {
                return Ok(Err("a place in a queue is none"));
            };
            let packet_id: Option<u16> = row.get(6)?;
            let turn: Option<i64> = row.get(7)?;
            show(QueuedRow {
                session: row.get(0)?,
                row: row.get(1)?,
                body: row.get(2)?,
                qos,
                retain: options & RETAIN != 0,
                ids,
                share,
                sent: packet_id.map(|packet_id| OnWire { packet_id, turn: turn.unwrap_or(0) }),
            });
            Ok(Ok(()))
        })
    }

    /// Shows every packet id that is received and not released.
    ///
    /// # Errors
    /// As above.
    pub fn each_received(&self, mut show: impl FnMut(i64, u16)) -> Result<(), StoreError> {
        self.each("SELECT session, pkid FROM received", |row| {
            show(row.get(0)?, row.get(1)?);
            Ok(Ok(()))
        })
    }

    /// The era that was noted last.
    ///
    /// # Errors
    /// As above.
    pub fn era(&self) -> Result<Option<i64>, StoreError> {
        let mut statement = self.store.connection().prepare_cached("SELECT v FROM meta WHERE k = 'era'")?;
        Ok(statement.query_row([], |row| row.get(0)).optional()?)
    }
}
