//! The words the rooms share: plain data, no I/O, no async, no clock.

pub mod chore;
pub mod clients;
pub mod command;
pub mod exchange;
pub mod id;
pub mod message;
pub mod overview;
pub mod payload;
pub mod percent;
pub mod priority;
pub mod rate;
pub mod reading;
pub mod secret;
pub mod time;
pub mod topic;
pub mod weight;

pub use command::{Ack, ActuatorView, Command, CommandId, CommandOrigin, Outcome, Setting};
pub use exchange::{Era, ExchangeId};
pub use id::{ActuatorId, BridgeId, BusId, GatewayId, IdError, SensorId, Seq};
pub use message::{Message, Origin, Properties, Qos};
pub use payload::Payload;
pub use priority::{Priority, RuleId};
pub use rate::{Quota, Rate};
pub use reading::{LineTotals, OWN_LEVELS, OWN_NAMES, Quality, Reading, Sample, Value};
pub use secret::Secret;
pub use time::{BootId, Moment, Timestamp};
pub use topic::{TopicError, TopicFilter, TopicName};
pub use weight::{MESSAGE_BYTES, QUEUE_ENTRY_BYTES};
