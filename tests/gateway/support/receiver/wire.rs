//! MQTT on the wire, written by hand from the specification: the judge must not share a library with the judged.
//!
//! A packet is a type and flags byte, the length of the rest in 7-bit groups, and the rest [MQTT-2]. Texts and binaries carry a 16 bit length.

/// Largest packet taken; nothing the tests send comes near.
const PACKET_BYTES_MAX: usize = 1 << 20;

pub(crate) const CONNECT: u8 = 1;
pub(crate) const CONNACK: u8 = 2;
pub(crate) const PUBLISH: u8 = 3;
pub(crate) const PUBACK: u8 = 4;
pub(crate) const PUBREC: u8 = 5;
pub(crate) const PUBREL: u8 = 6;
pub(crate) const PUBCOMP: u8 = 7;
pub(crate) const SUBSCRIBE: u8 = 8;
pub(crate) const SUBACK: u8 = 9;
pub(crate) const UNSUBSCRIBE: u8 = 10;
pub(crate) const UNSUBACK: u8 = 11;
pub(crate) const PINGREQ: u8 = 12;
pub(crate) const PINGRESP: u8 = 13;
pub(crate) const DISCONNECT: u8 = 14;

/// What is wrong with what was sent, in the words of the specification's rule.
pub(crate) type Fault = String;

/// A packet cut out of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Type, 1 to 15.
    pub(crate) kind: u8,
    /// The four flags.
    pub(crate) flags: u8,
    pub(crate) body: Vec<u8>,
}

impl Packet {
    /// Takes the first whole packet off the buffer; `None` when there is none yet.
    pub(crate) fn take(buffer: &mut Vec<u8>) -> Result<Option<Self>, Fault> {
        let mut length = 0;
        let mut at = 1;
        loop {
            let Some(&byte) = buffer.get(at) else { return Ok(None) };
            length |= usize::from(byte & 0x7f) << (7 * (at - 1));
            at += 1;
            if byte & 0x80 == 0 {
                break;
            }
            if at > 4 {
                return Err("the remaining length takes more than four bytes".to_owned());
            }
        }
        if length > PACKET_BYTES_MAX {
            return Err(format!("a packet of {length} bytes"));
        }
        if buffer.len() < at + length {
            return Ok(None);
        }
        let packet = Self { kind: buffer[0] >> 4, flags: buffer[0] & 15, body: buffer[at..at + length].to_vec() };
        buffer.drain(..at + length);
        Ok(Some(packet))
    }

    /// The packet as bytes.
    pub(crate) fn bytes(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind << 4 | flags];
        put_number(&mut bytes, body.len());
        bytes.extend_from_slice(body);
        bytes
    }
}

/// A number in 7-bit groups, least first.
pub(crate) fn put_number(bytes: &mut Vec<u8>, mut number: usize) {
    loop {
        let group = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        if number == 0 {
            bytes.push(group);
            return;
        }
        bytes.push(group | 0x80);
    }
}

/// A text or binary with its length before it.
pub(crate) fn put_block(bytes: &mut Vec<u8>, block: &[u8]) {
    let length = u16::try_from(block.len()).expect("a block of at most 65,535 bytes");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(block);
}

/// Reads a packet's body from front to back.
pub(crate) struct Body<'a>(pub(crate) &'a [u8]);

impl<'a> Body<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (head, rest) = self.0.split_at_checked(count).ok_or("a packet ends before its fields do")?;
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Fault> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn two(&mut self) -> Result<u16, Fault> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(crate) fn four(&mut self) -> Result<u32, Fault> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(crate) fn number(&mut self) -> Result<usize, Fault> {
        let mut number = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a length of more than four bytes".to_owned())
    }

    pub(crate) fn block(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.two()?;
        self.take(usize::from(length))
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Fault> {
        let text = std::str::from_utf8(self.block()?).map_err(|_| "a text that is not UTF-8 [MQTT-1.5.4-1]")?;
        if text.contains('\0') { Err("U+0000 in a text [MQTT-1.5.4-2]".to_owned()) } else { Ok(text) }
    }

    /// The properties of an MQTT 5 packet, as far as the bench looks at them.
    pub(crate) fn properties(&mut self) -> Result<Properties, Fault> {
        let length = self.number()?;
        let mut inner = Body(self.take(length)?);
        let mut properties = Properties::default();
        while !inner.0.is_empty() {
            let id = inner.byte()?;
            match id {
                0x11 => properties.session_expiry_s = inner.four()?,
                0x21 => properties.receive_maximum = Some(inner.two()?),
                0x22 => properties.topic_alias_maximum = inner.two()?,
                0x23 => properties.topic_alias = Some(inner.two()?),
                // One byte, four bytes, a number, blocks, a pair of blocks: MQTT 5, table 2-4.
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => drop(inner.byte()?),
                0x02 | 0x18 | 0x27 => drop(inner.four()?),
                0x0b => drop(inner.number()?),
                0x13 => drop(inner.two()?),
                0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => drop(inner.block()?),
                0x26 => drop((inner.text()?, inner.text()?)),
                _ => return Err(format!("property {id:#04x} does not exist")),
            }
        }
        Ok(properties)
    }
}

/// See [`Body::properties`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties {
    pub(crate) session_expiry_s: u32,
    pub(crate) receive_maximum: Option<u16>,
    pub(crate) topic_alias_maximum: u16,
    pub(crate) topic_alias: Option<u16>,
}

/// A PUBLISH, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) qos: u8,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
    /// 0 at QoS 0.
    pub(crate) id: u16,
    pub(crate) payload: Vec<u8>,
}

impl Publish {
    pub(crate) fn parse(packet: &Packet, v5: bool) -> Result<Self, Fault> {
        let (qos, dup) = (packet.flags >> 1 & 3, packet.flags & 8 != 0);
        if qos == 3 {
            return Err("QoS 3 [MQTT-3.3.1-4]".to_owned());
        }
        if qos == 0 && dup {
            return Err("DUP at QoS 0 [MQTT-3.3.1-2]".to_owned());
        }
        let mut body = Body(&packet.body);
        let topic = body.text()?.to_owned();
        if topic.is_empty() || topic.contains(['+', '#']) {
            return Err(format!("PUBLISH to `{topic}` [MQTT-3.3.2-2]"));
        }
        let id = if qos == 0 { 0 } else { body.two()? };
        if qos > 0 && id == 0 {
            return Err("packet id 0 [MQTT-2.2.1-3]".to_owned());
        }
        if v5 && body.properties()?.topic_alias.is_some() {
            return Err("a topic alias though none was allowed [MQTT-3.3.2-9]".to_owned());
        }
        Ok(Self { topic, qos, dup, retain: packet.flags & 1 != 0, id, payload: body.0.to_vec() })
    }

    /// The packet as bytes, for 3.1.1.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_block(&mut body, self.topic.as_bytes());
        if self.qos > 0 {
            body.extend_from_slice(&self.id.to_be_bytes());
        }
        body.extend_from_slice(&self.payload);
        Packet::bytes(PUBLISH, u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain), &body)
    }
}

/// A CONNECT, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connect {
    pub(crate) v5: bool,
    pub(crate) clean: bool,
    pub(crate) keep_alive_s: u16,
    pub(crate) session_expiry_s: u32,
    pub(crate) client: String,
    /// Topic, payload, QoS, retain.
    pub(crate) will: Option<(String, Vec<u8>, u8, bool)>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Vec<u8>>,
}

impl Connect {
    pub(crate) fn parse(packet: &Packet) -> Result<Self, Fault> {
        if packet.kind != CONNECT || packet.flags != 0 {
            return Err(format!("the first packet is of type {} [MQTT-3.1.0-1]", packet.kind));
        }
        let mut body = Body(&packet.body);
        let (name, level, flags) = (body.text()?, body.byte()?, body.byte()?);
        if name != "MQTT" || !(level == 4 || level == 5) {
            return Err(format!("protocol `{name}` level {level} [MQTT-3.1.2-1]"));
        }
        if flags & 1 != 0 {
            return Err("the reserved CONNECT flag is set [MQTT-3.1.2-3]".to_owned());
        }
        let keep_alive_s = body.two()?;
        let v5 = level == 5;
        let session_expiry_s = if v5 { body.properties()?.session_expiry_s } else { u32::MAX };
        let client = body.text()?.to_owned();
        let will = if flags & 4 != 0 {
            if v5 {
                body.properties()?;
            }
            Some((body.text()?.to_owned(), body.block()?.to_vec(), flags >> 3 & 3, flags & 0x20 != 0))
        } else if flags & 0x38 != 0 {
            return Err("will QoS or retain without a will [MQTT-3.1.2-11]".to_owned());
        } else {
            None
        };
        let username = if flags & 0x80 != 0 { Some(body.text()?.to_owned()) } else { None };
        let password = if flags & 0x40 != 0 { Some(body.block()?.to_vec()) } else { None };
        if !body.0.is_empty() {
            return Err("bytes after the last field of CONNECT".to_owned());
        }
        Ok(Self { v5, clean: flags & 2 != 0, keep_alive_s, session_expiry_s, client, will, username, password })
    }
}

/// The packet id of an acknowledgement; at MQTT 5 a reason may follow.
pub(crate) fn acknowledged(packet: &Packet) -> Result<u16, Fault> {
    Body(&packet.body).two()
}
