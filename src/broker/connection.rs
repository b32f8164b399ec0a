//! One connection: a task that reads, writes and waits. What the bytes mean is `conversation`'s.

mod taking;
mod writing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::Notify;

use self::taking::Taking;
use self::writing::{push, say_last};
use super::access::Access;
use super::arrival::{Arrival, Entry};
use super::conversation::{Conversation, Ending};
use super::core::{Farewell, NoRoom};
use super::door::Login;
use super::input::{Input, Packet};
use super::output::Output;
use super::presence::{Connection, Transport};
use super::session::Attachment;
use super::shared::{Live, Shared, count, room};
use crate::limits;
use crate::model::Moment;
use crate::mqtt::backlog::Backlog;
use crate::mqtt::framing::{self, FrameError};
use crate::mqtt::reason::Reason;
use crate::mqtt::server::{self, Connect, Refusal, Version, Welcome};

/// Why the bytes stop.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error(transparent)]
    Said(#[from] Ending),
    #[error("its connection closed")]
    Closed,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("packet of {bytes} bytes; the limit is {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("nothing heard for one and a half keep alive")]
    Silent,
    #[error("it takes nothing of what is sent to it")]
    Stalled,
    #[error("the broker is stopping")]
    Stopping,
    #[error("the broker was killed")]
    Killed,
}

impl From<Refusal> for Cut {
    fn from(refusal: Refusal) -> Self {
        Self::Said(Ending::Refused(refusal))
    }
}

impl From<FrameError> for Cut {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Length => {
                Refusal { reason: Reason::MalformedPacket, text: "length of a packet takes more than four bytes" }
                    .into()
            }
            FrameError::TooLarge { bytes, limit } => Self::TooLarge { bytes, limit },
        }
    }
}

impl Cut {
    fn reason(&self) -> Option<Reason> {
        match self {
            Self::Said(ending) => ending.reason(),
            Self::TooLarge { .. } => Some(Reason::PacketTooLarge),
            Self::Silent => Some(Reason::KeepAliveTimeout),
            Self::Stopping => Some(Reason::ShuttingDown),
            Self::Closed | Self::Io(_) | Self::Stalled | Self::Killed => None,
        }
    }
}

/// Serves a connection to its end.
pub(super) async fn serve<R, W>(shared: Arc<Shared>, mut reader: R, mut writer: W, arrival: Arrival)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let peer = arrival.peer;
    count(&shared.traffic.sockets_opened, 1);
    let mut input = BytesMut::new();
    let reading = read_connect(&shared, &mut reader, &mut input);
    let connect = tokio::select! {
        connect = tokio::time::timeout(limits::CONNECT_WAIT, reading) => connect,
        () = shared.stopping.cancelled() => return,
        () = shared.killed.cancelled() => return,
    };
    let mut connect = match connect {
        Ok(Ok(connect)) => connect,
        Ok(Err(Cut::Said(Ending::Refused(refusal)))) => {
            tracing::debug!(%peer, error = %refusal, "connection refused");
            if refusal.reason == Reason::UnsupportedVersion {
                let mut output = BytesMut::new();
                server::put_connect_refusal(&mut output, Version::V311, refusal.reason);
                say_last(&mut reader, &mut writer, &mut output).await;
            }
            return;
        }
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "connection ended before CONNECT");
            return;
        }
        Err(_) => {
            tracing::debug!(%peer, "no CONNECT in time");
            return;
        }
    };
    if let Some(user) = &arrival.user {
        (connect.user, connect.password) = (Some(user.clone()), None);
    }
    let judged = tokio::select! {
        judged = judge(&shared, &connect, &arrival) => judged,
        () = shared.stopping.cancelled() => Err(Reason::ShuttingDown),
        () = shared.killed.cancelled() => return,
    };
    let opened = judged.and_then(|(client, access, live)| {
        if arrival.user.is_none() && !live.guests.names_count() {
            connect.user = None;
        }
        open(&shared, &connect, &client, access, &live, arrival.entry())
    });
    let (mut conversation, wake, keep_alive_s) = match opened {
        Ok(opened) => opened,
        Err(reason) => {
            let mut output = BytesMut::new();
            server::put_connect_refusal(&mut output, connect.version, reason);
            say_last(&mut reader, &mut writer, &mut output).await;
            return;
        }
    };
    if let Some(pending) = conversation.attached.pending.take() {
        // A session that the disk does not take lives in memory; that it does not is told by the keeper.
        tokio::select! {
            _ = pending => {}
            () = shared.stopping.cancelled() => {}
            () = shared.killed.cancelled() => {}
        }
    }
    if let Some(allowance) = arrival.allowance {
        allowance.lift();
    }
    let attached = &conversation.attached;
    attached.slot.presence.begin(Connection {
        generation: attached.generation,
        peer,
        transport: Transport::of(arrival.place),
        version: connect.version,
        keep_alive_s,
        since: shared.clock.now(),
        ended: None,
    });
    let keep_alive = Duration::from_millis(u64::from(keep_alive_s) * 1_500);
    let input = Input::from(input);
    let taking = Taking::new(limits::WRITE_STALL_MAX, shared.clock.now());
    let backlog = arrival.backlog;
    let mut line =
        Line { shared, conversation, reader, writer, input, unflushed: false, keep_alive, wake, taking, backlog };
    let cut = match line.run().await {
        Err(cut) => cut,
        Ok(never) => match never {},
    };
    line.close(&cut, peer).await;
}

async fn read_connect<R: AsyncRead + Unpin>(
    shared: &Shared,
    reader: &mut R,
    input: &mut BytesMut,
) -> Result<Connect, Cut> {
    let max_packet = shared.live().settings.max_packet;
    let limit = limits::CONNECT_BYTES_MAX.min(usize::try_from(max_packet).unwrap_or(usize::MAX));
    loop {
        // Judged by its first byte: whoever does not speak MQTT is not waited for.
        if input.first().is_some_and(|first| *first != CONNECT) {
            return Err(Refusal { reason: Reason::ProtocolError, text: "the first packet is not a CONNECT" }.into());
        }
        if let Some(header) = framing::header(input, limit)?
            && input.len() >= header.total()
        {
            let connect = server::decode_connect(header, &input[header.header_len..header.total()])?;
            input.advance(header.total());
            return Ok(connect);
        }
        input.reserve(limits::READ_BYTES);
        match reader.read_buf(input).await? {
            0 => return Err(Cut::Closed),
            more => count(&shared.traffic.bytes_received, more as u64),
        }
    }
}

/// The keep alive that a client has to keep in place of its own; none at all is longer than any.
fn shorter_keep_alive(connect: &Connect, live: &Live) -> Option<u16> {
    live.settings.caps.max_keep_alive_s.filter(|most| connect.keep_alive_s == 0 || connect.keep_alive_s > *most)
}

/// Who the client is, and what it may do.
type Judged = (Arc<str>, Arc<Access>, Arc<Live>);

async fn judge(shared: &Arc<Shared>, connect: &Connect, arrival: &Arrival) -> Result<Judged, Reason> {
    let peer = arrival.peer;
    count(&shared.traffic.messages_received, 1);
    count(&shared.traffic.connects, 1);
    if connect.authentication {
        return Err(Reason::BadAuthMethod);
    }
    if connect.client_id.is_empty() && connect.version == Version::V311 && !connect.clean_start {
        return Err(Reason::ClientIdInvalid);
    }
    let live = shared.live();
    if shorter_keep_alive(connect, &live).is_some() && connect.version == Version::V311 {
        // It cannot be told which one to keep.
        if shared.door.is_news(peer.ip(), "max_keep_alive", shared.clock.now()) {
            let (client, keep_alive_s) = (&connect.client_id, connect.keep_alive_s);
            tracing::warn!(%peer, client, keep_alive_s, "client wants a longer keep alive than `max_keep_alive`, it is refused");
        }
        return Err(Reason::ClientIdInvalid);
    }
    let client: Arc<str> = if connect.client_id.is_empty() {
        format!("auto-{}", uuid::Uuid::new_v4()).into()
    } else {
        connect.client_id.as_str().into()
    };
    if !arrival.counts_under(&live) {
        tracing::debug!(%peer, "what it came in by is not what counts by now, it has to come again");
        return Err(Reason::ServerBusy);
    }
    let user = connect.user.as_deref();
    let login = match user.filter(|_| arrival.user.is_some()) {
        Some(user) => live.guests.vouched(user, &client),
        None => shared.door.login(&live.guests, user, connect.password.clone(), &client).await,
    };
    let reason = match login {
        Login::Welcome(access) => {
            if let Some(will) = &connect.will
                && !access.may_publish(&will.message.topic)
            {
                tracing::warn!(%client, topic = %will.message.topic, "client may not publish its will, it is refused");
                return Err(Reason::NotAuthorized);
            }
            return Ok((client, access, live));
        }
        Login::Wrong => Reason::BadUserOrPassword,
        Login::Nameless => Reason::NotAuthorized,
        Login::Busy => {
            if shared.door.is_news(peer.ip(), "busy", shared.clock.now()) {
                tracing::warn!(%peer, %client, user, "too many logins at once, this one is put off");
            }
            return Err(Reason::ServerBusy);
        }
    };
    let (delay, is_first) = shared.door.failed(peer.ip(), shared.clock.now());
    if is_first {
        tracing::warn!(%peer, %client, user, "login refused");
    }
    tokio::time::sleep(delay).await;
    Err(reason)
}

fn open(
    shared: &Arc<Shared>,
    connect: &Connect,
    client: &Arc<str>,
    access: Arc<Access>,
    live: &Live,
    entry: Entry,
) -> Result<(Conversation, Arc<Notify>, u16), Reason> {
    let wake = Arc::new(Notify::new());
    let settings = &live.settings;
    let attachment = Attachment {
        window: usize::from(connect.receive_maximum.min(settings.caps.max_inflight)),
        expiry_s: connect.session_expiry_s,
        room: room(settings),
        wake: wake.clone(),
    };
    let now = shared.clock.now();
    let mut core = shared.core_under(live).ok_or(Reason::ServerBusy)?;
    let (user, will) = (connect.user.as_deref(), connect.will.clone());
    let attached = core.attach(client, user, connect.clean_start, will, attachment, now);
    let attached = attached.map_err(|why| {
        if why == NoRoom::Will && shared.is_first(client, "will") {
            tracing::warn!(%client, "client has a large will, and so have too many others: it is refused");
        }
        Reason::ServerBusy
    })?;
    attached.slot.withheld.follow(&access);
    drop(core);
    for will in &attached.wills {
        shared.publish_will(will);
    }
    tracing::debug!(%client, version = ?connect.version, resumed = attached.session_present, "client connected");
    let shorter = shorter_keep_alive(connect, live);
    let mut output = Output::default();
    let welcome = Welcome {
        session_present: attached.session_present,
        assigned_id: connect.client_id.is_empty().then(|| client.clone()),
        max_packet: settings.max_packet,
        receive_maximum: limits::UNACKNOWLEDGED_MAX,
        topic_alias_maximum: limits::TOPIC_ALIASES,
        keep_alive_s: shorter,
    };
    server::put_welcome(output.tail(), connect.version, &welcome);
    count(&shared.traffic.messages_sent, 1);
    let keep_alive_s = shorter.unwrap_or(connect.keep_alive_s);
    Ok((Conversation::new(shared.clone(), attached, connect, access, live, entry, output), wake, keep_alive_s))
}

struct Line<R, W> {
    shared: Arc<Shared>,
    conversation: Conversation,
    reader: R,
    writer: W,
    input: Input,
    /// Whether TLS or a WebSocket holds bytes that the socket has not taken.
    unflushed: bool,
    /// Longest silence; zero for any.
    keep_alive: Duration,
    wake: Arc<Notify>,
    taking: Taking,
    /// Of its socket, where it is one.
    backlog: Option<Backlog>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Line<R, W> {
    async fn run(&mut self) -> Result<std::convert::Infallible, Cut> {
        let clock = self.shared.clock.clone();
        let (stopping, killed) = (self.shared.stopping.clone(), self.shared.killed.clone());
        let (stopped, cut_off) = (stopping.cancelled(), killed.cancelled());
        tokio::pin!(stopped, cut_off);
        let mut heard = clock.now();
        let alarm = tokio::time::sleep(self.patience(heard, heard));
        tokio::pin!(alarm);
        loop {
            // Looked at each time: among branches that are all ready, the one that stops might be passed over for many turns.
            if killed.is_cancelled() {
                return Err(Cut::Killed);
            }
            if stopping.is_cancelled() {
                return Err(Cut::Stopping);
            }
            self.take_packets()?;
            let had_unsent = self.has_unsent();
            self.conversation.speak()?;
            let has_unsent = self.has_unsent();
            if has_unsent && !had_unsent {
                self.taking.moved(clock.now());
            }
            let is_listening = self.conversation.is_listening();
            if !is_listening {
                // It is we who do not listen.
                heard = clock.now();
            }
            let limit = self.packet_max();
            let Self { conversation, reader, writer, input, unflushed, wake, shared, taking, backlog, .. } = self;
            let accepted = &shared.traffic.bytes_sent;
            // The output is lent to the writer while the conversation waits for its promises.
            let mut output = std::mem::take(&mut conversation.output);
            let mut settled = Ok(());
            tokio::select! {
                () = &mut cut_off => {}
                () = &mut stopped => {}
                outcome = push(writer, &mut output, unflushed, accepted), if has_unsent => {
                    outcome?;
                    taking.moved(clock.now());
                    output.tidy();
                }
                outcome = reader.read_buf(input.room(limit)), if is_listening => match outcome? {
                    0 => return Err(Cut::Closed),
                    more => {
                        count(&shared.traffic.bytes_received, more as u64);
                        heard = clock.now();
                        conversation.attached.slot.presence.hear(heard);
                    }
                },
                () = wake.notified() => {}
                outcome = conversation.settle() => settled = outcome,
                () = &mut alarm => {
                    let now = clock.now();
                    if has_unsent && taking.is_over(|| backlog.and_then(Backlog::bytes), now) {
                        return Err(Cut::Stalled);
                    }
                    if !self.keep_alive.is_zero() && is_listening && now.since(heard) >= self.keep_alive {
                        conversation.output = output;
                        return Err(Cut::Silent);
                    }
                }
            }
            // Acknowledgements that were settled in the meantime follow what was there before them.
            output.append(std::mem::take(&mut self.conversation.output));
            self.conversation.output = output;
            settled?;
            if alarm.is_elapsed() || has_unsent != had_unsent {
                let patience = self.patience(clock.now(), heard);
                alarm.set(tokio::time::sleep(patience));
            }
        }
    }

    /// Whether something waits for the socket.
    fn has_unsent(&self) -> bool {
        !self.conversation.output.is_empty() || self.unflushed
    }

    /// How long nothing need be checked.
    fn patience(&self, now: Moment, heard: Moment) -> Duration {
        let silence = if self.keep_alive.is_zero() { FOREVER } else { heard + self.keep_alive - now };
        let stall = if self.has_unsent() { self.taking.next_look() - now } else { FOREVER };
        silence.min(stall).max(Duration::from_millis(10))
    }

    fn take_packets(&mut self) -> Result<(), Cut> {
        let limit = self.packet_max();
        while self.conversation.is_listening() {
            let packet = match self.input.packet(limit)? {
                None => break,
                Some(Packet::Small(header)) => {
                    let packet = server::decode(self.conversation.version, header, self.input.body(header))?;
                    self.input.advance(header);
                    packet
                }
                Some(Packet::Large(header, bytes)) => server::decode_whole(self.conversation.version, header, &bytes)?,
            };
            self.conversation.hear(packet)?;
        }
        self.input.tidy();
        Ok(())
    }

    fn packet_max(&self) -> usize {
        usize::try_from(self.shared.live().settings.max_packet).unwrap_or(usize::MAX)
    }

    async fn close(mut self, cut: &Cut, peer: SocketAddr) {
        let slot = self.conversation.attached.slot.clone();
        let client = &slot.client;
        match cut {
            Cut::Killed => return,
            Cut::TooLarge { bytes, limit } if self.shared.is_first(client, "too large") => {
                tracing::warn!(%client, %peer, bytes, limit, "packet larger than max_packet, the connection is closed");
            }
            Cut::Said(Ending::Unkept(error)) => {
                tracing::debug!(%client, %error, "message not acknowledged, the connection is closed");
            }
            cut => tracing::debug!(%client, %peer, reason = %cut, "client disconnected"),
        }
        let farewell = match cut {
            Cut::Said(Ending::Goodbye { with_will: false }) | Cut::Stopping => Farewell::Normal,
            _ => Farewell::Abrupt,
        };
        let now = self.shared.clock.now();
        slot.presence.end(self.conversation.attached.generation, now);
        let will = self.shared.core().detach(&slot, self.conversation.attached.generation, farewell, now);
        self.shared.due_changed.notify_one();
        if let Some(will) = will {
            self.shared.publish_will(&will);
        }
        if let Some(reason) = cut.reason() {
            self.conversation.say_goodbye(reason);
        }
        if !matches!(cut, Cut::Stalled | Cut::Io(_)) {
            let mut output = std::mem::take(&mut self.conversation.output);
            say_last(&mut self.reader, &mut self.writer, &mut output).await;
        }
    }
}

const CONNECT: u8 = 0x10;
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests;
