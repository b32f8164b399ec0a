//! The gateway as a client of the broker, without its socket: what is said, what is heard, what is due.
//!
//! Contract: `connect` begins a connection, `receive` takes its bytes, `turn` gives what is to be written and offered, `settled` takes what became of an
//! offer, `disconnected` ends the connection. Between turns sleep until `due`, and read only while `listens`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::inbound::{Inbound, Offer};
use super::outbound::{Acknowledged, Outbound, Terms};
use crate::broker::settings::External;
use crate::limits::{EXTERNAL_RECEIVE, EXTERNAL_SESSION_S, EXTERNAL_WINDOW, PING_ANSWER};
use crate::logic::echo::Echoes;
use crate::logic::keepalive::{Due, KeepAlive};
use crate::logic::marks;
use crate::logic::spool::Spool;
use crate::model::{Message, Moment, Origin, Qos, TopicFilter};
use crate::mqtt::client::{
    self, Connect, Decoder, Delivery, EncodeError, Incoming, RetainedFirst, Version, Welcome, WireError,
};
use crate::mqtt::reason;
use crate::ports::NotAccepted;

/// Why a connection is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Close {
    /// Its CONNACK says no.
    Refused(Version, u8),
    /// It said goodbye, with this reason of MQTT 5.
    Dismissed(u8),
    /// Its bytes are no MQTT.
    Wire(WireError),
    /// It did not answer a ping.
    Silent,
    /// We left in order.
    Left,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) bytes: BytesMut,
    pub(super) offers: Vec<Offer>,
    pub(super) close: Option<Close>,
}

/// A connection.
struct Connection {
    decoder: Decoder,
    terms: Terms,
    keep_alive: KeepAlive,
    /// CONNACK has come.
    welcomed: bool,
    out: BytesMut,
    /// What SUBSCRIBE asked for, by packet id.
    asked: HashMap<u16, Vec<TopicFilter>>,
    /// What UNSUBSCRIBE took back, by packet id. It is held until UNSUBACK.
    taken_back: HashMap<u16, Vec<TopicFilter>>,
    /// All that is wanted was asked for here.
    all_asked: bool,
    echo_told: bool,
}

/// See the module.
pub(super) struct Session {
    settings: Arc<External>,
    connection: Option<Connection>,
    outbound: Outbound,
    inbound: Inbound,
    /// What came and is not handed over yet: it is offered whatever becomes of its connection.
    offers: Vec<Offer>,
    /// What comes back from a broker of 3.1.1.
    echoes: Echoes,
    /// What the broker's session may be subscribed to; of an earlier process, too.
    held: BTreeSet<String>,
    /// Filters that the broker refused, and its code.
    refused: Vec<(TopicFilter, u8)>,
    /// A connection stood before.
    was_connected: bool,
    leaving: bool,
    /// Messages that were larger than is taken here.
    too_large: u64,
}

impl Session {
    /// `held`: what an earlier process subscribed to, which may be of another config. `was_connected`: a session of this process
    /// stood before, so that its will may have spoken.
    pub(super) fn new(settings: Arc<External>, held: BTreeSet<String>, was_connected: bool) -> Self {
        Self {
            settings,
            connection: None,
            outbound: Outbound::default(),
            inbound: Inbound::default(),
            offers: Vec::new(),
            echoes: Echoes::default(),
            held,
            refused: Vec::new(),
            was_connected,
            leaving: false,
            too_large: 0,
        }
    }

    /// Begins a connection: CONNECT.
    pub(super) fn connect(&mut self, version: Version, now: Moment) -> Result<BytesMut, EncodeError> {
        let settings = &self.settings;
        let mut bytes = BytesMut::new();
        let connect = Connect {
            client_id: &settings.client_id,
            clean: false,
            keep_alive_s: u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX),
            username: settings.username.as_ref().map(crate::model::Secret::expose),
            password: settings.password.as_ref().map(crate::model::Secret::expose),
            will: Some((&settings.status_topic, OFFLINE)),
            will_retained: true,
            will_delay_s: 0,
            session_expiry_s: EXTERNAL_SESSION_S,
            receive_maximum: EXTERNAL_RECEIVE,
            max_packet: settings.max_packet,
        };
        client::put_connect(&mut bytes, version, &connect)?;
        let max_packet = usize::try_from(settings.max_packet).unwrap_or(usize::MAX);
        // A broker of 3.1.1 cannot be told the limit. What is larger is read and dropped: hung up on, it would send it again for ever.
        let limit = if version == Version::V5 { max_packet } else { usize::MAX };
        self.connection = Some(Connection {
            decoder: Decoder::new(version, limit),
            terms: Terms {
                version,
                max_packet,
                max_qos: Qos::ExactlyOnce,
                retain: true,
                window: EXTERNAL_WINDOW.into(),
            },
            keep_alive: KeepAlive::new(settings.keep_alive, PING_ANSWER, now),
            welcomed: false,
            out: BytesMut::new(),
            asked: HashMap::new(),
            taken_back: HashMap::new(),
            all_asked: false,
            echo_told: false,
        });
        Ok(bytes)
    }

    /// The connection is over.
    pub(super) fn disconnected(&mut self, spool: &mut Spool) {
        self.connection = None;
        spool.set_away(true);
    }

    /// Ends it for good: what flew waits again, for another session of this process.
    pub(super) fn give_back(&mut self, spool: &mut Spool) {
        self.disconnected(spool);
        self.outbound.give_back(spool);
    }

    /// What came and is not handed over yet, without anything being said.
    pub(super) fn take_offers(&mut self) -> Vec<Offer> {
        std::mem::take(&mut self.offers)
    }

    /// Other filters, or others of what needs no other connection.
    pub(super) fn apply(&mut self, settings: Arc<External>) {
        self.settings = settings;
        self.refused.retain(|(filter, _)| self.settings.filters.contains(filter));
    }

    /// The next connection is to another broker. Of the filters that one was subscribed to none is forgotten: it may have been ours before, and taking
    /// back what is not there does no harm.
    pub(super) fn moved(&mut self, spool: &mut Spool) {
        self.disconnected(spool);
        self.outbound.moved(spool);
        self.inbound.moved();
        self.echoes = Echoes::default();
        self.refused.clear();
    }

    /// Says goodbye once all is said and acknowledged.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
    }

    /// Takes bytes in.
    pub(super) fn receive(&mut self, bytes: &[u8], spool: &mut Spool, now: Moment) -> Result<(), Close> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        connection.keep_alive.received(now);
        connection.decoder.feed(bytes);
        while let Some(connection) = &mut self.connection {
            match connection.decoder.next_packet() {
                Ok(Some(packet)) => self.packet(packet, spool, now)?,
                Ok(None) => break,
                Err(error) => return Err(Close::Wire(error)),
            }
        }
        Ok(())
    }

    fn packet(&mut self, packet: Incoming, spool: &mut Spool, now: Moment) -> Result<(), Close> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        match (packet, connection.welcomed) {
            (Incoming::Connack(welcome), false) if welcome.code != 0 => {
                return Err(Close::Refused(connection.terms.version, welcome.code));
            }
            (Incoming::Connack(welcome), false) => self.welcomed(&welcome, spool),
            (Incoming::Disconnect(code, _), _) => return Err(Close::Dismissed(code)),
            (_, false) => return Err(Close::Wire(WireError::Malformed("greeting"))),
            (Incoming::Connack(_), true) => return Err(Close::Wire(WireError::Malformed("second CONNACK"))),
            (Incoming::Publish(delivery), _) => self.delivered(delivery, now),
            (Incoming::Puback(pkid, code), _) => {
                let end = self.outbound.puback(pkid, code);
                refused(&end);
            }
            (Incoming::Pubrec(pkid, code), _) => {
                let end = self.outbound.pubrec(pkid, code, &mut connection.out);
                refused(&end);
            }
            (Incoming::Pubcomp(pkid), _) => self.outbound.pubcomp(pkid),
            (Incoming::Pubrel(pkid), _) => self.inbound.released(pkid, &mut connection.out),
            (Incoming::Suback(pkid, codes), _) => {
                let filters = connection.asked.remove(&pkid).unwrap_or_default();
                for (filter, code) in filters.into_iter().zip(codes) {
                    self.refused.retain(|(refused, _)| *refused != filter);
                    if code >= 0x80 {
                        let why = reason::in_words(code);
                        tracing::error!(%filter, code = format!("0x{code:02x}"), why, "the local broker refuses a subscription");
                        self.refused.push((filter, code));
                    }
                }
            }
            (Incoming::Unsuback(pkid), _) => {
                for filter in connection.taken_back.remove(&pkid).unwrap_or_default() {
                    self.held.remove(filter.as_str());
                }
            }
            (Incoming::Pingresp, _) => {}
        }
        Ok(())
    }

    fn welcomed(&mut self, welcome: &Welcome, spool: &mut Spool) {
        let Some(connection) = &mut self.connection else { return };
        connection.welcomed = true;
        connection.terms.max_packet = connection.terms.max_packet.min(welcome.max_packet);
        connection.terms.max_qos = welcome.max_qos;
        connection.terms.retain = welcome.retain;
        connection.terms.window = welcome.receive_maximum.unwrap_or(EXTERNAL_WINDOW).into();
        if let Some(seconds) = welcome.keep_alive_s {
            connection.keep_alive.set_interval(Duration::from_secs(seconds.into()));
        }
        if !welcome.session_present {
            self.echoes = Echoes::default();
            self.held.clear();
        }
        self.inbound.connected(welcome.session_present);
        let is_first = !std::mem::replace(&mut self.was_connected, true);
        self.outbound.connected(welcome.session_present, is_first, spool);
        spool.set_away(false);
    }

    fn delivered(&mut self, delivery: Delivery, now: Moment) {
        let Some(connection) = &mut self.connection else { return };
        let is_v5 = connection.terms.version == Version::V5;
        let Delivery { topic, payload, qos, retain, pkid, dup, properties } = delivery;
        let mark = Echoes::mark(topic.as_str(), &payload);
        let is_large = payload.len() > usize::try_from(self.settings.max_packet).unwrap_or(usize::MAX);
        self.too_large += u64::from(is_large);
        // 3.1.1 marks what was kept before a subscription alone; that was told when it was published, or is of before our time.
        let is_old = !is_v5 && retain;
        let is_echo = !is_v5 && !retain && self.echoes.came(mark, now).is_some();
        let is_round = marks::went_through(properties.as_deref(), self.settings.gateway.as_str());
        if is_large || is_old || is_echo || is_round || (dup && self.inbound.is_over(pkid, mark)) {
            if is_round && !std::mem::replace(&mut connection.echo_told, true) {
                tracing::info!(%topic, "messages that went up come back to the local broker: they do not go up again");
            }
            return self.inbound.came_for_nobody(qos, pkid, mark);
        }
        let message =
            Message { topic, payload, qos, retain, origin: Origin::Client, properties, stamp: None, exchange: None };
        self.offers.extend(self.inbound.came(message, pkid, mark));
    }

    /// What became of an offer; returns why it was refused when that is news.
    pub(super) fn settled(
        &mut self,
        serial: u64,
        outcome: Result<(), NotAccepted>,
        now: Moment,
    ) -> Option<NotAccepted> {
        self.inbound.settled(serial, outcome, now)
    }

    /// What is to be said and offered now. `unsent`: bytes that the socket has not taken yet.
    pub(super) fn turn(&mut self, spool: &mut Spool, now: Moment, unsent: usize) -> Turn {
        let mut turn = Turn { offers: self.take_offers(), ..Turn::default() };
        turn.offers.extend(self.inbound.due(now));
        let listens = self.listens();
        let Some(connection) = &mut self.connection else { return turn };
        if connection.welcomed {
            subscribe(connection, &self.settings.filters, &mut self.held, &mut self.outbound);
            self.inbound.acknowledge(&mut connection.out);
            let (filters, echoes) = (&self.settings.filters, &mut self.echoes);
            let is_v5 = connection.terms.version == Version::V5;
            self.outbound.fill(&mut connection.out, unsent, &connection.terms, spool, |message| {
                if !is_v5 && filters.iter().any(|filter| filter.matches(&message.topic)) {
                    echoes.sent(Echoes::mark(message.topic.as_str(), &message.payload), now);
                }
            });
            if self.leaving && spool.is_empty() && !self.outbound.is_owed() && turn.offers.is_empty() {
                client::put_disconnect(&mut connection.out);
                turn.close = Some(Close::Left);
            }
        }
        if !listens {
            // Its answers are not read: that is not its silence.
            connection.keep_alive.received(now);
        }
        let is_owed = self.outbound.is_owed() || !connection.asked.is_empty() || !connection.taken_back.is_empty();
        connection.keep_alive.awaits(is_owed, now);
        match connection.keep_alive.due(now) {
            Due::Ping if connection.welcomed => {
                client::put_pingreq(&mut connection.out);
                if listens {
                    connection.keep_alive.asked(now);
                } else {
                    connection.keep_alive.sent(now);
                }
            }
            // CONNACK has a limit of its own.
            Due::Nothing | Due::Ping => {}
            Due::Dead => turn.close = Some(Close::Silent),
        }
        turn.bytes = connection.out.split();
        turn
    }

    /// Bytes went out.
    pub(super) fn sent(&mut self, now: Moment) {
        if let Some(connection) = &mut self.connection {
            connection.keep_alive.sent(now);
        }
    }

    /// When something is due, if nothing happens.
    pub(super) fn due(&self) -> Option<Moment> {
        let keep_alive = self.connection.as_ref().filter(|connection| connection.welcomed);
        [keep_alive.and_then(|connection| connection.keep_alive.next()), self.inbound.again()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether the connection is to be read. Its CONNACK is in any case.
    pub(super) fn listens(&self) -> bool {
        !self.is_online() || self.inbound.has_room()
    }

    /// Whether the broker said welcome.
    pub(super) fn is_online(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.welcomed)
    }

    /// What of it does not work although it is connected.
    pub(super) fn complaint(&self) -> Option<String> {
        let (filter, code) = self.refused.first()?;
        let more = match self.refused.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        Some(format!("it refuses the subscription `{filter}`: 0x{code:02x} {}{more}", reason::in_words(*code)))
    }

    /// What the broker's session may be subscribed to.
    pub(super) fn held(&self) -> &BTreeSet<String> {
        &self.held
    }

    /// Messages that came, that were said, and that were too large to be either.
    pub(super) fn figures(&self) -> (u64, u64, u64) {
        (self.inbound.received(), self.outbound.sent(), self.too_large + self.outbound.too_large())
    }
}

/// Asks with each connection for all that is wanted, since a session may be of another config, and takes back what is not wanted any more: two
/// subscriptions that overlap would bring a message twice.
fn subscribe(
    connection: &mut Connection,
    wanted: &[TopicFilter],
    held: &mut BTreeSet<String>,
    outbound: &mut Outbound,
) {
    let version = connection.terms.version;
    let is_wanted = |held: &str| wanted.iter().any(|filter| filter.as_str() == held);
    let is_going = |connection: &Connection, held: &str| {
        connection.taken_back.values().flatten().any(|filter| filter.as_str() == held)
    };
    let gone = held.iter().filter(|held| !is_wanted(held) && !is_going(connection, held));
    let gone: Vec<TopicFilter> = gone.filter_map(|held| TopicFilter::parse(held).ok()).collect();
    if !gone.is_empty() {
        let pkid = free(outbound, connection);
        match client::put_unsubscribe(&mut connection.out, version, pkid, &gone) {
            Ok(()) => {
                connection.taken_back.insert(pkid, gone);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot unsubscribe at the local broker");
                // It would be no other the next time.
                for filter in &gone {
                    held.remove(filter.as_str());
                }
            }
        }
    }
    let all = !std::mem::replace(&mut connection.all_asked, true);
    // One that is being taken back is not there once that is done.
    let is_new = |filter: &str| all || !held.contains(filter) || is_going(connection, filter);
    let new: Vec<TopicFilter> = wanted.iter().filter(|filter| is_new(filter.as_str())).cloned().collect();
    if !new.is_empty() {
        connection.taken_back.values_mut().for_each(|filters| filters.retain(|filter| !new.contains(filter)));
        held.extend(new.iter().map(ToString::to_string));
        let pkid = free(outbound, connection);
        let filters: Vec<(TopicFilter, Qos)> = new.iter().map(|filter| (filter.clone(), Qos::ExactlyOnce)).collect();
        // What is retained there is not news: it was told when it was published, some of it by us.
        match client::put_subscribe(&mut connection.out, version, pkid, &filters, RetainedFirst::Kept) {
            Ok(()) => {
                connection.asked.insert(pkid, new);
            }
            Err(error) => tracing::warn!(%error, "cannot subscribe at the local broker"),
        }
    }
}

/// A packet id that neither a message nor another request has.
fn free(outbound: &mut Outbound, connection: &Connection) -> u16 {
    loop {
        let pkid = outbound.free(Qos::AtLeastOnce);
        if !connection.asked.contains_key(&pkid) && !connection.taken_back.contains_key(&pkid) {
            return pkid;
        }
    }
}

fn refused(end: &Acknowledged) {
    if let Acknowledged::Refused(message, code) = end {
        let (topic, why) = (&message.topic, reason::in_words(*code));
        tracing::warn!(%topic, code = format!("0x{code:02x}"), why, "the local broker refuses a message");
    }
}

/// Why a connection ended, in words.
pub(super) fn words(close: &Close) -> String {
    match close {
        Close::Refused(version, code) => {
            let hint = match code {
                4 | 5 | 0x86 | 0x87 | 0x8a => ": `username`, `password` and `client_id` under [broker.external]",
                _ => "",
            };
            format!("CONNACK 0x{code:02x} {}{hint}", reason::connack(*version, *code))
        }
        Close::Dismissed(code) => format!("it ended the connection: 0x{code:02x} {}", reason::in_words(*code)),
        Close::Wire(error) => in_place(&error.to_string()),
        Close::Silent => format!("no answer to ping within {} s", PING_ANSWER.as_secs()),
        Close::Left => "left".into(),
    }
}

/// What the rooms of the wire say of a cloud, said of this broker.
pub(super) fn in_place(words: &str) -> String {
    words.replace("the cloud", "the broker")
}

/// What the broker says once we do not.
const OFFLINE: &str = "offline";
