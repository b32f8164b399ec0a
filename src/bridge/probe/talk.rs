//! What a test says in MQTT, and what it hears.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::bridge::core::Close;
use crate::bridge::settings::Settings;
use crate::bridge::{signers, words};
use crate::clock::Clock;
use crate::limits::{BRIDGE_LAST_WORDS, BRIDGE_READ_BYTES, DOWN_PACKET_MAX, DOWN_RECEIVE_MAXIMUM};
use crate::model::{Qos, Secret, TopicFilter, TopicName};
use crate::mqtt::client::{self, Connect, Decoder, Incoming, RetainedFirst, Version, Welcome};
use crate::mqtt::dial::Stream;
use crate::mqtt::tls::in_words;

/// What was waited for, or why it does not come.
type Heard<T> = Result<T, String>;

/// One conversation in MQTT.
pub(super) struct Talk {
    stream: Stream,
    pub(super) version: Version,
    decoder: Decoder,
    input: Vec<u8>,
    /// What is to be said next.
    out: BytesMut,
    /// As it was sent.
    pub(super) client_id: String,
}

impl Talk {
    pub(super) fn new(stream: Stream, version: Version) -> Self {
        let decoder = Decoder::new(version, DOWN_PACKET_MAX);
        let (input, out) = (vec![0; BRIDGE_READ_BYTES], BytesMut::new());
        Self { stream, version, decoder, input, out, client_id: String::new() }
    }

    async fn say(&mut self) -> Heard<()> {
        let said = self.stream.write_all_buf(&mut self.out).await;
        match said {
            Ok(()) => self.stream.flush().await.map_err(|error| in_words(&error)),
            Err(error) => Err(in_words(&error)),
        }
    }

    /// The next packet that is no message.
    async fn hear(&mut self) -> Heard<Incoming> {
        loop {
            match self.decoder.next_packet().map_err(|error| error.to_string())? {
                Some(Incoming::Publish(_)) => continue,
                Some(Incoming::Disconnect(code, elsewhere)) => {
                    return Err(words::of(&Close::Dismissed(code, elsewhere)));
                }
                Some(packet) => return Ok(packet),
                None => {}
            }
            match self.stream.read(&mut self.input).await {
                Ok(0) => return Err(HUNG_UP.into()),
                Ok(length) => self.decoder.feed(&self.input[..length]),
                Err(error) => return Err(in_words(&error)),
            }
        }
    }

    pub(super) async fn greet(&mut self, settings: &Settings, clean: bool, clock: &dyn Clock) -> Heard<Welcome> {
        let made =
            signers::credentials(settings, clock.wall(), fastrand::u32(..)).map_err(|error| error.to_string())?;
        let seconds = |span: Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
        let connect = Connect {
            client_id: &made.client_id,
            clean,
            keep_alive_s: u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX),
            username: made.username.as_ref().map(Secret::expose),
            password: made.password.as_ref().map(Secret::expose),
            will: None,
            will_retained: false,
            will_delay_s: 0,
            session_expiry_s: if clean { 0 } else { seconds(settings.session_expiry) },
            receive_maximum: DOWN_RECEIVE_MAXIMUM,
            max_packet: u32::try_from(DOWN_PACKET_MAX).unwrap_or(u32::MAX),
        };
        client::put_connect(&mut self.out, self.version, &connect).map_err(|error| error.to_string())?;
        self.client_id.clone_from(&made.client_id);
        self.say().await?;
        match self.hear().await? {
            Incoming::Connack(welcome) => Ok(welcome),
            _ => Err("the cloud answers CONNECT with another packet".into()),
        }
    }

    pub(super) async fn subscribe(&mut self, filters: &[(TopicFilter, Qos)]) -> Heard<Vec<u8>> {
        client::put_subscribe(&mut self.out, self.version, PACKET_ID, filters, RetainedFirst::Sent)
            .map_err(|error| error.to_string())?;
        self.say().await?;
        loop {
            if let Incoming::Suback(PACKET_ID, codes) = self.hear().await? {
                // One packet may answer fewer filters than were asked for, and that must not shift the others.
                return if codes.len() == filters.len() {
                    Ok(codes)
                } else {
                    Err("SUBACK does not answer each filter".into())
                };
            }
        }
    }

    /// Publishes nothing at all; the cloud's code for it. QoS 0 has no answer: a ping behind it shows whether the cloud hung up.
    pub(super) async fn publish(&mut self, topic: &TopicName, qos: Qos) -> Heard<u8> {
        let publish = client::Outgoing {
            topic: topic.as_str(),
            payload: &[],
            qos,
            retain: false,
            dup: false,
            pkid: PACKET_ID,
            alias: None,
            properties: None,
        };
        client::put_publish(&mut self.out, self.version, &publish, usize::MAX);
        if qos == Qos::AtMostOnce {
            client::put_pingreq(&mut self.out);
        }
        self.say().await?;
        loop {
            match self.hear().await? {
                Incoming::Puback(PACKET_ID, code) => return Ok(code),
                Incoming::Pingresp if qos == Qos::AtMostOnce => return Ok(0),
                _ => {}
            }
        }
    }

    /// Says goodbye; whether it was heard matters to nobody.
    pub(super) async fn leave(&mut self) {
        client::put_disconnect(&mut self.out);
        let last = async {
            let _ = self.say().await;
            let _ = self.stream.shutdown().await;
        };
        let _ = timeout(BRIDGE_LAST_WORDS, last).await;
    }
}

/// One thing at a time is asked.
const PACKET_ID: u16 = 1;

/// The cloud ended the connection and gave no reason.
pub(in crate::bridge) const HUNG_UP: &str = "the cloud closed the connection without a word";
