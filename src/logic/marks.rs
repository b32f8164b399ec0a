//! The marks that a message carries to an MQTT 5 cloud: a name of its own that never changes, and the gateways it went through.
//!
//! Two user properties [MQTT-3.3.2.3.7]. [`MESSAGE_ID`] is the same however often a message is said again, so that whoever reads can drop
//! a double. [`VIA`] stands once for each gateway whose bridge sent the message up, in order. A message that comes back to a gateway which
//! is in its list has gone in a circle.
//!
//! Two gateways may be each other's cloud, and 3.1.1 carries no properties. So a bridge tells who it is when it is connected, by an UNSUBSCRIBE
//! from [`greeting`]: any broker has to answer that [MQTT-3.10.4-5], and does nothing else about it. A gateway's broker sends its own
//! greeting back. Each then knows whom the other end is, and marks what comes from there itself.

use std::sync::Arc;

use crate::model::{GatewayId, Properties};

/// `<store>-<number>`: the store's own name, 16 hexadecimal digits, and the record's number in it.
pub const MESSAGE_ID: &str = "tg-msg-id";
/// Id of a gateway whose bridge sent the message up.
pub const VIA: &str = "tg-via";

/// What a bridge of this gateway says to its cloud, and what a gateway's broker answers.
pub fn greeting(gateway: &GatewayId) -> String {
    format!("{GREETING}{gateway}")
}

/// Who says so; `None` where this is no greeting.
pub fn greets(topic: &str) -> Option<GatewayId> {
    GatewayId::parse(topic.strip_prefix(GREETING)?).ok()
}

const GREETING: &str = "$tidegate/gateway/";

/// Notes that the message came right from this gateway, unless it says so itself.
pub fn came_from(properties: &mut Option<Arc<Properties>>, gateway: &GatewayId) {
    if last_via(properties.as_deref()) != Some(gateway.as_str()) {
        Arc::make_mut(properties.get_or_insert_default()).user.push((VIA.into(), gateway.as_str().into()));
    }
}

/// The gateway it went through last.
pub fn last_via(properties: Option<&Properties>) -> Option<&str> {
    let user = properties.into_iter().flat_map(|properties| &properties.user).rev();
    user.filter(|(name, _)| &**name == VIA).map(|(_, gateway)| &**gateway).next()
}

/// Whether a bridge of this gateway has sent the message up before.
pub fn went_through(properties: Option<&Properties>, gateway: &str) -> bool {
    let mut user = properties.into_iter().flat_map(|properties| &properties.user);
    user.any(|(name, value)| &**name == VIA && &**value == gateway)
}

/// The properties as they go up: with this gateway in the list, and with the id, unless the message brought one along.
pub fn put(mut properties: Properties, gateway: &str, id: Option<&str>) -> Properties {
    properties.user.push((VIA.into(), gateway.into()));
    if let Some(id) = id
        && !properties.user.iter().any(|(name, _)| &**name == MESSAGE_ID)
    {
        properties.user.push((MESSAGE_ID.into(), id.into()));
    }
    properties
}

/// Takes away an id that a client copied from another message, or made up: two messages with one id would be one to whoever drops doubles.
pub fn without_id(properties: &mut Arc<Properties>) {
    if properties.user.iter().any(|(name, _)| &**name == MESSAGE_ID) {
        Arc::make_mut(properties).user.retain(|(name, _)| &**name != MESSAGE_ID);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(pairs: &[(&str, &str)]) -> Properties {
        let user = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Properties { user, ..Properties::default() }
    }

    #[test]
    fn a_message_gets_one_id_and_a_line_for_each_gateway() {
        let first = put(user(&[("a", "1")]), "box", Some("s-7"));
        assert_eq!(first, user(&[("a", "1"), (VIA, "box"), (MESSAGE_ID, "s-7")]));
        let second = put(first, "hub", Some("t-1"));
        assert_eq!(second, user(&[("a", "1"), (VIA, "box"), (MESSAGE_ID, "s-7"), (VIA, "hub")]));
        assert!(went_through(Some(&second), "box") && went_through(Some(&second), "hub"));
        assert!(!went_through(Some(&second), "other") && !went_through(None, "box"));
    }

    #[test]
    fn what_comes_from_a_gateway_is_marked_once() {
        let gateway = |id| GatewayId::parse(id).unwrap();
        let mut properties = None;
        for id in ["box", "box", "hub", "box"] {
            came_from(&mut properties, &gateway(id));
        }
        assert_eq!(properties.as_deref(), Some(&user(&[(VIA, "box"), (VIA, "hub"), (VIA, "box")])));
        assert_eq!(greets(&greeting(&gateway("box"))), Some(gateway("box")));
        assert_eq!(
            [greets("tidegate/gateway/box"), greets("$tidegate/gateway/"), greets("$tidegate/gateway/#")],
            [const { None }; 3]
        );
    }

    #[test]
    fn an_id_that_a_client_brings_along_is_not_its_message_s() {
        let mut properties = Arc::new(user(&[(MESSAGE_ID, "s-7"), ("a", "1")]));
        without_id(&mut properties);
        assert_eq!(*properties, user(&[("a", "1")]));
    }
}
