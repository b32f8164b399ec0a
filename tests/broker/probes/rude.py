"""Packets that no client may send, and packets that are legal and rare."""

from bench import wire
from probes import Stand, probe
from stand.peer import V5, block, connect, prop, publish, subscribe, will

GROUP = "Rude and rare packets"
MALFORMED, PROTOCOL = "DISCONNECT 0x81, closes", "DISCONNECT 0x82, closes"
BAD_TOPIC = "DISCONNECT 0x90, closes"


def sends(name: str, make, *, v311: str = "closes", v5: str) -> None:
    """What a connected client gets for these bytes."""

    def run(stand: Stand) -> str:
        client = stand.client("rude")
        client.send(make(stand.version))
        return client.answer()

    probe(GROUP, name, v311=v311, v5=v5)(run)


def greets(name: str, make, *, v311: str | None, v5: str | None) -> None:
    """What a connection gets that begins with these bytes."""

    def run(stand: Stand) -> str:
        peer = stand.open()
        peer.send(make(stand.version))
        return peer.answer()

    probe(GROUP, name, v311=v311, v5=v5)(run)


sends("PUBLISH at QoS 3", lambda v: wire.packet(0x36, b"\0\x01a\0\x01" + block(v)), v5=MALFORMED)
sends("PUBLISH at QoS 0 with DUP", lambda v: publish(v, "a", "", dup=True), v5=MALFORMED)
sends("PUBLISH at QoS 1 with packet id 0", lambda v: publish(v, "a", "", 1, 0), v5=PROTOCOL)
sends("PUBLISH to `a/#`", lambda v: publish(v, "a/#", ""), v5=BAD_TOPIC)
sends("PUBLISH to `+`", lambda v: publish(v, "+", ""), v5=BAD_TOPIC)
sends("PUBLISH to an empty topic", lambda v: publish(v, "", ""), v5=BAD_TOPIC)
sends("PUBLISH to a topic with U+0000", lambda v: publish(v, b"a\0b", ""), v5=BAD_TOPIC)
sends("PUBLISH to a topic that is not UTF-8", lambda v: publish(v, b"\xff\xfe", ""), v5=MALFORMED)
sends("SUBSCRIBE with the flags of another packet", lambda v: b"\x80" + subscribe(v, 1, "a")[1:], v5=MALFORMED)
sends("SUBSCRIBE with packet id 0", lambda v: subscribe(v, 0, "a"), v5=PROTOCOL)
sends("SUBSCRIBE at QoS 3", lambda v: subscribe(v, 1, "a", 3), v5=MALFORMED)
sends("SUBSCRIBE without a filter", lambda v: wire.packet(0x82, b"\0\x01" + block(v)), v5=MALFORMED)
sends("SUBSCRIBE to `a#`", lambda v: subscribe(v, 1, "a#"), v311="SUBACK 0x80", v5="SUBACK 0x8f")
sends("SUBSCRIBE to `a/#/b`", lambda v: subscribe(v, 1, "a/#/b"), v311="SUBACK 0x80", v5="SUBACK 0x8f")
sends("SUBSCRIBE to an empty filter", lambda v: subscribe(v, 1, ""), v311="SUBACK 0x80", v5="SUBACK 0x8f")
sends("SUBSCRIBE to `$share//a`", lambda v: subscribe(v, 1, "$share//a"), v311="SUBACK 0x80", v5=MALFORMED)
sends("PUBREL with the flags of another packet", lambda v: b"\x60\x02\0\x09", v5=MALFORMED)
sends("PUBACK for nothing", lambda v: b"\x40\x02\0\x09", v311="nothing", v5="nothing")
sends("PUBCOMP for nothing", lambda v: b"\x70\x02\0\x09", v311="nothing", v5="nothing")
sends("PUBREC for nothing", lambda v: b"\x50\x02\0\x09", v311="PUBREL", v5="PUBREL")
sends("PUBREL for nothing", lambda v: b"\x62\x02\0\x09", v311="PUBCOMP", v5="PUBCOMP 0x92")
sends("a second CONNECT", lambda v: connect(v, "rude"), v5=PROTOCOL)
sends("a packet of the server's (SUBACK)", lambda v: wire.packet(0x90, b"\0\x01\0"), v5=PROTOCOL)
sends("a packet of type 0", lambda v: b"\0\0", v5=PROTOCOL)
sends("a length of five bytes", lambda v: b"\x30\xff\xff\xff\xff\x7f", v5=MALFORMED)
sends("PUBLISH at QoS 1 to `$SYS/x`", lambda v: publish(v, "$SYS/x", "", 1), v311="PUBACK", v5="PUBACK 0x87")


@probe(GROUP, "PUBLISH of which 256 MB are announced", v311="closes", v5="DISCONNECT 0x95, closes")
def too_large(stand: Stand) -> str:
    client = stand.client("large")
    client.send(b"\x30\xff\xff\xff\x7f\0\x01a")
    client.send(bytes(1 << 16))
    client.hang_up(2)
    return client.answer()


greets("something that is not MQTT", lambda v: b"GET / HTTP/1.1\r\n\r\n", v311="closes", v5=None)
greets("PINGREQ before CONNECT", lambda v: b"", v311="closes", v5=None)
greets("CONNECT of MQTT 3.1", lambda v: wire.packet(0x10, b"\0\x06MQIsdp\x03\x02\0\x3c\0\x01a"), v311="CONNACK 0x01, closes", v5=None)
greets("CONNECT of version 6", lambda v: wire.packet(0x10, b"\0\x04MQTT\x06\x02\0\x3c\0\x01a"), v311="CONNACK 0x01, closes", v5=None)
greets("CONNECT of a protocol MQTX", lambda v: wire.packet(0x10, b"\0\x04MQTX" + bytes([v]) + b"\x02\0\x3c\0\x01a"), v311="closes", v5=None)
greets("CONNECT with the reserved flag", lambda v: connect(v, "a", 3), v311="closes", v5="closes")
greets("CONNECT with a will at QoS 3", lambda v: connect(v, "a", 0x1E, rest=will(v, "w", "x")), v311="closes", v5="closes")
greets("CONNECT with the QoS of a will and no will", lambda v: connect(v, "a", 0x0A), v311="closes", v5="closes")
greets("CONNECT with a will to `w/#`", lambda v: connect(v, "a", 6, rest=will(v, "w/#", "x")), v311="closes", v5="closes")
greets("CONNECT with a password and no user name", lambda v: connect(v, "a", 0x42, rest=wire.text("pw")), v311="closes", v5="CONNACK 0x00")
greets("CONNECT with an empty client id, clean", lambda v: connect(v, ""), v311="CONNACK 0x00", v5="CONNACK 0x00")
greets("CONNECT with an empty client id, not clean", lambda v: connect(v, "", 0), v311="CONNACK 0x02, closes", v5="CONNACK 0x00")
greets("CONNECT with U+0000 in the client id", lambda v: connect(v, "a\0b"), v311="closes", v5="closes")
greets("CONNECT with extended authentication", lambda v: connect(v, "a", properties=prop((0x15, wire.text("X")))), v311=None, v5="CONNACK 0x8c, closes")
greets("CONNECT with a property twice", lambda v: connect(v, "a", properties=prop((0x21, b"\0\x05"), (0x21, b"\0\x05"))), v311=None, v5="closes")
greets("CONNECT with Receive Maximum 0", lambda v: connect(v, "a", properties=prop((0x21, b"\0\0"))), v311=None, v5="closes")


@probe(GROUP, "a byte behind DISCONNECT", "closes")
def goes_on(stand: Stand) -> str:
    client = stand.client("gone")
    client.send(b"\xe0\0" + publish(stand.version, "gone/x", ""))
    client.hang_up(2)
    return "closes" if client.closed else "stays open"


@probe(GROUP, "PUBLISH by a topic alias that was never said", v5="DISCONNECT 0x82, closes")
def unknown_alias(stand: Stand) -> str:
    client = stand.client("alias")
    client.send(publish(V5, "", "x", properties=prop((0x23, b"\0\x06"))))
    return client.answer()


@probe(GROUP, "PUBLISH by topic alias 0", v5=MALFORMED)
def alias_zero(stand: Stand) -> str:
    client = stand.client("alias")
    client.send(publish(V5, "a", "x", properties=prop((0x23, b"\0\0"))))
    return client.answer()
