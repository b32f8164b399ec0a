//! A client that only listens: connects, subscribes at QoS 2 in a session of its own, hands on what comes, connects again when cut off.
//!
//! MQTT 3.1.1. It judges what a broker delivers, so it keeps the QoS 2 handshake over reconnects, as the specification asks of a receiver [MQTT-4.3.3].

use std::net::SocketAddr;
use std::time::Duration;

use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::Event;
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, Packet, Qos as WireQos, SubEntry, SubOpts, v3_1_1};
use mqtt_protocol_core::mqtt::result_code::{ConnectReturnCode, MqttError};
use mqtt_protocol_core::mqtt::{Connection, Version, role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::limits::{SUBSCRIBER_BUFFER, SUBSCRIBER_CONNECT, SUBSCRIBER_PAUSE};
use crate::model::{Qos, TopicFilter};

/// A message as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// Quality of service it was delivered with.
    pub qos: Qos,
    /// Whether it was kept from before the subscription.
    pub retained: bool,
}

/// Why one connection ended.
#[derive(Debug, thiserror::Error)]
pub enum SubscriberError {
    /// The transport.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The broker did not answer in time.
    #[error("no answer to CONNECT")]
    Timeout,
    /// Something that is no MQTT, or not allowed at this point.
    #[error("protocol error: {0:?}")]
    Protocol(MqttError),
    /// The broker closed the connection.
    #[error("closed by the broker")]
    Closed,
}

/// What to listen to, and as whom.
#[derive(Debug, Clone)]
pub struct Subscriber {
    /// The broker.
    pub address: SocketAddr,
    /// Client id; the broker keeps the session under it.
    pub client_id: String,
    /// Filters.
    pub filters: Vec<TopicFilter>,
}

impl Subscriber {
    /// Listens for ever; `subscribed` says whether a broker holds the subscription at the moment. Cancel it by dropping the future.
    pub async fn listen(&self, subscribed: &watch::Sender<bool>, mut arrived: impl FnMut(Arrival<'_>)) {
        let mut connection = Connection::<role::Client>::new(Version::V3_1_1);
        connection.set_auto_pub_response(true);
        loop {
            if let Err(error) = self.session(&mut connection, subscribed, &mut arrived).await {
                tracing::debug!(client = self.client_id, %error, "subscriber is cut off");
            }
            subscribed.send_if_modified(std::mem::take);
            drop(connection.notify_closed());
            tokio::time::sleep(SUBSCRIBER_PAUSE).await;
        }
    }

    async fn session(
        &self,
        connection: &mut Connection<role::Client>,
        subscribed: &watch::Sender<bool>,
        arrived: &mut impl FnMut(Arrival<'_>),
    ) -> Result<(), SubscriberError> {
        let mut stream = tokio::time::timeout(SUBSCRIBER_CONNECT, TcpStream::connect(self.address))
            .await
            .map_err(|_| SubscriberError::Timeout)??;
        stream.set_nodelay(true)?;
        let connect = v3_1_1::Connect::builder()
            .client_id(&self.client_id)
            .and_then(|connect| connect.clean_session(false).keep_alive(0).build())
            .map_err(SubscriberError::Protocol)?;
        let mut bytes = Vec::new();
        take(connection.checked_send(connect), &mut bytes, arrived)?;
        stream.write_all(&bytes).await?;

        let mut input = vec![0; SUBSCRIBER_BUFFER];
        loop {
            // Once subscribed, silence is no fault: the cloud may have nothing to say for hours.
            let wait = if *subscribed.borrow() { Duration::MAX } else { SUBSCRIBER_CONNECT };
            let read =
                tokio::time::timeout(wait, stream.read(&mut input)).await.map_err(|_| SubscriberError::Timeout)??;
            if read == 0 {
                return Err(SubscriberError::Closed);
            }
            bytes.clear();
            let mut cursor = Cursor::new(&input[..read]);
            while cursor.position() < read as u64 {
                let events = connection.recv(&mut cursor);
                match take(events, &mut bytes, arrived)? {
                    Some(Step::Connected) => {
                        // Also with the session present: a filter added since is then not missing.
                        let subscribe = self.subscribe(connection).map_err(SubscriberError::Protocol)?;
                        take(connection.checked_send(subscribe), &mut bytes, arrived)?;
                    }
                    Some(Step::Subscribed) => {
                        subscribed.send_replace(true);
                    }
                    None => {}
                }
            }
            stream.write_all(&bytes).await?;
        }
    }

    fn subscribe(&self, connection: &mut Connection<role::Client>) -> Result<v3_1_1::Subscribe, MqttError> {
        let entries = self
            .filters
            .iter()
            .map(|filter| SubEntry::new(filter.as_str(), SubOpts::new().set_qos(WireQos::ExactlyOnce)))
            .collect::<Result<Vec<_>, _>>()?;
        let id = connection.acquire_packet_id()?;
        v3_1_1::Subscribe::builder().packet_id(id).entries(entries).build()
    }
}

/// A step of the handshake that the broker granted.
enum Step {
    Connected,
    Subscribed,
}

/// Gathers what is to be sent, hands on what arrived.
fn take(
    events: Vec<Event>,
    bytes: &mut Vec<u8>,
    arrived: &mut impl FnMut(Arrival<'_>),
) -> Result<Option<Step>, SubscriberError> {
    let mut step = None;
    for event in events {
        match event {
            Event::RequestSendPacket { packet, .. } => bytes.extend_from_slice(&packet.to_continuous_buffer()),
            Event::NotifyPacketReceived(Packet::V3_1_1Publish(publish)) => arrived(Arrival {
                topic: publish.topic_name(),
                payload: publish.payload().as_slice(),
                qos: Qos::from_level(publish.qos() as u8).unwrap_or_default(),
                retained: publish.retain(),
            }),
            Event::NotifyPacketReceived(Packet::V3_1_1Connack(connack)) => match connack.return_code() {
                ConnectReturnCode::Accepted => step = Some(Step::Connected),
                _ => return Err(SubscriberError::Closed),
            },
            Event::NotifyPacketReceived(Packet::V3_1_1Suback(_)) => step = Some(Step::Subscribed),
            Event::NotifyError(error) => return Err(SubscriberError::Protocol(error)),
            Event::RequestClose => return Err(SubscriberError::Closed),
            Event::NotifyPacketReceived(_)
            | Event::NotifyPacketIdReleased(_)
            | Event::RequestTimerReset { .. }
            | Event::RequestTimerCancel(_) => {}
        }
    }
    Ok(step)
}
