//! Packets of a client that are a packet id, or nothing.

use bytes::BytesMut;

/// Writes PUBACK.
pub fn put_puback(out: &mut BytesMut, pkid: u16) {
    put_acknowledgement(out, 0x40, pkid);
}

/// Writes PUBREC.
pub fn put_pubrec(out: &mut BytesMut, pkid: u16) {
    put_acknowledgement(out, 0x50, pkid);
}

/// Writes PUBREL.
pub fn put_pubrel(out: &mut BytesMut, pkid: u16) {
    put_acknowledgement(out, 0x62, pkid);
}

/// Writes PUBCOMP.
pub fn put_pubcomp(out: &mut BytesMut, pkid: u16) {
    put_acknowledgement(out, 0x70, pkid);
}

fn put_acknowledgement(out: &mut BytesMut, first: u8, pkid: u16) {
    let [high, low] = pkid.to_be_bytes();
    out.extend_from_slice(&[first, 2, high, low]);
}

/// Writes PINGREQ.
pub fn put_pingreq(out: &mut BytesMut) {
    out.extend_from_slice(&[0xc0, 0]);
}

/// Writes DISCONNECT: an orderly goodbye, for which the cloud drops the will.
pub fn put_disconnect(out: &mut BytesMut) {
    out.extend_from_slice(&[0xe0, 0]);
}
