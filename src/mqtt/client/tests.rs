use super::*;
use crate::mqtt::server;

fn topic(text: &str) -> TopicName {
    TopicName::parse(text).unwrap()
}

/// Reads a packet the way our own server does, which is held to the specification by its own tests.
fn as_server(bytes: &[u8], version: Version) -> server::Incoming {
    let header = header(bytes, usize::MAX).unwrap().unwrap();
    server::decode(version, header, &bytes[header.header_len..]).unwrap()
}

fn decoded(version: Version, bytes: &[u8]) -> Result<Option<Incoming>, WireError> {
    let mut decoder = Decoder::new(version, 1_000);
    decoder.feed(bytes);
    decoder.next_packet()
}

#[test]
fn a_connect_says_what_was_asked_for() {
    let status = topic("up/status");
    for version in [Version::V311, Version::V5] {
        let connect = Connect {
            client_id: "g",
            clean: false,
            keep_alive_s: 30,
            username: Some("u"),
            password: Some("p"),
            will: Some((&status, "offline")),
            will_retained: true,
            will_delay_s: 10,
            session_expiry_s: 600,
            receive_maximum: 50,
            max_packet: 1_000,
        };
        let mut out = BytesMut::new();
        put_connect(&mut out, version, &connect).unwrap();
        let header = header(&out, usize::MAX).unwrap().unwrap();
        let read = server::decode_connect(header, &out[header.header_len..]).unwrap();
        let will = read.will.clone().unwrap();
        assert_eq!((read.version, read.client_id.as_str(), read.clean_start), (version, "g", false));
        assert_eq!((read.keep_alive_s, read.user.as_deref(), read.password), (30, Some("u"), Some(b"p".to_vec())));
        assert_eq!((&will.message.topic, &*will.message.payload), (&status, b"offline".as_slice()));
        assert_eq!((will.message.qos, will.message.retain), (Qos::AtLeastOnce, true));
        let five = version == Version::V5;
        assert_eq!(read.session_expiry_s, if five { 600 } else { u32::MAX });
        assert_eq!((will.delay_s, read.receive_maximum), if five { (10, 50) } else { (0, u16::MAX) });
    }
}

#[test]
fn a_publish_reads_back_as_it_was_written() {
    let properties = Properties { expiry_s: Some(9), user: vec![("a".into(), "b".into())], ..Properties::default() };
    for version in [Version::V311, Version::V5] {
        let publish = Outgoing {
            topic: "a/ü",
            alias: None,
            payload: b"1",
            qos: Qos::ExactlyOnce,
            retain: true,
            dup: true,
            pkid: 7,
            properties: Some(&properties),
        };
        let mut out = BytesMut::new();
        assert!(!put_publish(&mut out, version, &publish, 10), "over the limit");
        assert!(out.is_empty());
        assert!(put_publish(&mut out, version, &publish, 100));
        let server::Incoming::Publish(read) = as_server(&out, version) else { panic!("no PUBLISH") };
        assert_eq!((read.dup, read.qos, read.retain, read.packet_id), (true, Qos::ExactlyOnce, true, 7));
        assert_eq!((read.topic, &*read.payload), (Some(topic("a/ü")), b"1".as_slice()));
        let expected = (version == Version::V5).then(|| Arc::new(properties.clone()));
        assert_eq!(read.properties, expected);
        // What a server sends looks the same.
        let Ok(Some(Incoming::Publish(back))) = decoded(version, &out) else { panic!("no PUBLISH") };
        assert_eq!((back.topic, back.pkid, back.retain, back.properties), (topic("a/ü"), 7, true, expected));
    }
}

#[test]
fn subscriptions_read_back_as_they_were_written() {
    let filters =
        [(TopicFilter::parse("a/+").unwrap(), Qos::ExactlyOnce), (TopicFilter::parse("#").unwrap(), Qos::AtMostOnce)];
    for version in [Version::V311, Version::V5] {
        let five = version == Version::V5;
        let ask = |filter: &str, qos| server::Ask {
            filter: filter.into(),
            qos,
            no_local: five,
            retain_as_published: five,
            retain_handling: 0,
        };
        let mut out = BytesMut::new();
        put_subscribe(&mut out, version, 3, &filters, RetainedFirst::Sent).unwrap();
        let asks = vec![ask("a/+", Qos::ExactlyOnce), ask("#", Qos::AtMostOnce)];
        assert_eq!(as_server(&out, version), server::Incoming::Subscribe(3, None, asks));
        let mut out = BytesMut::new();
        put_unsubscribe(&mut out, version, 4, std::slice::from_ref(&filters[1].0)).unwrap();
        assert_eq!(as_server(&out, version), server::Incoming::Unsubscribe(4, vec!["#".into()]));
    }
}

#[test]
fn a_connack_tells_the_limits_of_the_cloud() {
    let limits = [0x20, 16, 1, 0, 13, 0x21, 0, 5, 0x24, 1, 0x25, 0, 0x13, 0, 60, 0x27, 0, 0];
    let mut bytes = limits.to_vec();
    bytes[1] = 18;
    bytes[4] = 15;
    bytes.extend_from_slice(&[1, 0]);
    let Ok(Some(Incoming::Connack(welcome))) = decoded(Version::V5, &bytes) else { panic!("no CONNACK") };
    let expected = Welcome {
        code: 0,
        session_present: true,
        receive_maximum: Some(5),
        max_packet: 256,
        max_qos: Qos::AtLeastOnce,
        retain: false,
        keep_alive_s: Some(60),
        session_expiry_s: None,
        topic_aliases: 0,
        elsewhere: None,
    };
    assert_eq!(welcome, expected);
}

#[test]
fn a_server_of_the_old_version_refuses_in_its_own_words() {
    let Ok(Some(Incoming::Connack(welcome))) = decoded(Version::V5, &[0x20, 2, 0, 1]) else { panic!("no CONNACK") };
    assert_eq!((welcome.code, welcome.session_present), (1, false));
}

#[test]
fn acknowledgements_carry_their_reason_known_or_not() {
    let read = |bytes: &[u8]| decoded(Version::V5, bytes).unwrap().unwrap();
    assert_eq!(read(&[0x40, 2, 0, 7]), Incoming::Puback(7, 0));
    assert_eq!(read(&[0x50, 3, 0, 7, 0xfe]), Incoming::Pubrec(7, 0xfe));
    assert_eq!(read(&[0x70, 4, 1, 0, 0x92, 0]), Incoming::Pubcomp(256));
    assert_eq!(read(&[0x90, 5, 0, 3, 0, 1, 0x87]), Incoming::Suback(3, vec![1, 0x87]));
    assert_eq!(read(&[0xe0, 1, 0x8e]), Incoming::Disconnect(0x8e, None));
    assert_eq!(decoded(Version::V5, &[0x40, 2, 0, 0]), Err(WireError::Malformed("PUBACK")));
    assert_eq!(decoded(Version::V311, &[0xe0, 0]), Err(WireError::Unexpected(14)));
}

#[test]
fn a_cloud_may_name_another_server() {
    let [connack, disconnect] = [&[0x20, 8, 0, 0x9d, 5][..], &[0xe0, 7, 0x9c, 5]].map(|head| {
        let packet = [head, &[0x1c, 0, 2], b"b:"].concat();
        decoded(Version::V5, &packet).unwrap().unwrap()
    });
    let Incoming::Connack(welcome) = connack else { panic!("{connack:?}") };
    assert_eq!((welcome.code, welcome.elsewhere.as_deref()), (0x9d, Some("b:")));
    assert_eq!(disconnect, Incoming::Disconnect(0x9c, Some("b:".into())));
    let cut = decoded(Version::V5, &[0xe0, 4, 0x9c, 5, 0x1c, 0]).unwrap();
    assert_eq!(cut, Some(Incoming::Disconnect(0x9c, None)), "the connection is over all the same");
}

#[test]
fn a_cloud_that_was_allowed_no_topic_alias_must_not_use_one() {
    for topic in [&b""[..], b"a"] {
        let head = [0x30, u8::try_from(7 + topic.len()).unwrap(), 0, u8::try_from(topic.len()).unwrap()];
        let packet = [&head[..], topic, &[3, 0x23, 0, 1, b'x']].concat();
        assert_eq!(decoded(Version::V5, &packet), Err(WireError::Alias));
    }
}

#[test]
fn a_packet_is_taken_when_it_is_whole() {
    let mut decoder = Decoder::new(Version::V311, 1_000);
    for byte in [0x40, 2, 0] {
        decoder.feed(&[byte]);
        assert_eq!(decoder.next_packet(), Ok(None));
    }
    decoder.feed(&[7, 0xd0, 0]);
    assert_eq!(decoder.next_packet(), Ok(Some(Incoming::Puback(7, 0))));
    assert_eq!(decoder.next_packet(), Ok(Some(Incoming::Pingresp)));
    assert_eq!(decoder.next_packet(), Ok(None));
}

#[test]
fn no_garbage_panics() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let mut bytes: Vec<u8> = (0..random.usize(1..40)).map(|_| random.u8(..)).collect();
        if let Some(length) = bytes.get_mut(1) {
            *length &= 0x1f;
        }
        for version in [Version::V311, Version::V5] {
            let _ = decoded(version, &bytes);
        }
    }
}
