//! Limits of the gateway as the client of a broker that is there already (`engine = "external"`).

use std::time::Duration;

/// Name look-up, TCP, TLS and CONNACK together. That broker is on the box, or near it.
pub const EXTERNAL_CONNECT: Duration = Duration::from_secs(10);
/// First and longest pause between attempts to reach it: it is mostly a service that restarts, within a second or two.
pub const EXTERNAL_RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// Pause after it refused who we are. Nothing but a person changes that, in its configuration or in ours, and each attempt is a line in its log.
pub const EXTERNAL_REFUSED: Duration = Duration::from_secs(30);
/// A connection that lasted so long starts the pauses anew.
pub const EXTERNAL_STABLE: Duration = Duration::from_secs(10);
/// How long it is asked to keep our session while we are away (MQTT 5), seconds: a week, as with a cloud.
pub const EXTERNAL_SESSION_S: u32 = 7 * 24 * 3_600;
/// Messages that wait for it, while it is away or slow. Beyond, the oldest goes that is not retained, then the oldest, counted: the bridges have
/// what they forward, and local subscribers would be told of what is over.
pub const EXTERNAL_QUEUE: usize = 10_000;
/// What they may weigh, bytes, likewise.
pub const EXTERNAL_QUEUE_BYTES: usize = 16 << 20;
/// What the retained messages of the gateway itself may weigh, bytes, that are remembered to be told again after each reconnection, since that broker
/// may have lost them. One of a new topic beyond it is not remembered, and it is told.
pub const EXTERNAL_KEPT_BYTES: usize = 16 << 20;
/// Messages of QoS 1 and 2 towards it that are unacknowledged. Packet ids of QoS 2 are these first ones: after a kill of the gateway it may hold
/// a message that was half handed over under any of them, and each is released once before it is used again.
pub const EXTERNAL_WINDOW: u16 = 100;
/// Messages of QoS 1 and 2 from it that wait for the bridges' commits; beyond that number it is not read from until one is done. Told to it as Receive
/// Maximum where it speaks MQTT 5.
pub const EXTERNAL_RECEIVE: u16 = 200;
/// What such messages may weigh, bytes, likewise.
pub const EXTERNAL_RECEIVE_BYTES: usize = 16 << 20;
/// A message that a bridge could not take is offered again after so long. It is not acknowledged meanwhile, nor is what comes after it.
pub const EXTERNAL_AGAIN: Duration = Duration::from_secs(1);
/// Pause before the client is started again after a fault of its own.
pub const EXTERNAL_RESTART: Duration = Duration::from_secs(1);
