"""The wire of MQTT 3.1.1 and 5, as far as this bench reads it: packets out of bytes, and what a PUBLISH holds."""

import socket
from collections.abc import Iterator
from typing import NamedTuple

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = 8, 9, 10, 11, 12, 13, 14, 15
NAMES = {PUBACK: "PUBACK", PUBREC: "PUBREC", PUBCOMP: "PUBCOMP", DISCONNECT: "DISCONNECT"}

# From here on a reason code of MQTT 5 says no (section 2.4).
FAILURE = 0x80


class Breach(Exception):
    """The other side said what the specification forbids."""


class Packet(NamedTuple):
    first: int
    body: bytes
    raw: bytes

    @property
    def kind(self) -> int:
        return self.first >> 4

    @property
    def packet_id(self) -> int:
        """Of an acknowledgement."""
        return int.from_bytes(self.body[:2], "big")

    def reason(self, version: int) -> int:
        """Of an acknowledgement; left out, it is success (MQTT 5, section 3.4.2.1)."""
        return self.body[2] if version == 5 and len(self.body) > 2 else 0


class Publish(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int
    alias: int = 0


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(2, "big") + raw


def packet(first: int, body: bytes) -> bytes:
    size, left = b"", len(body)
    while True:
        left, low = left >> 7, left & 0x7F
        size += bytes([low | (0x80 if left else 0)])
        if not left:
            return bytes([first]) + size + body


def variable(data: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer and where it ends."""
    value = 0
    for shift in (0, 7, 14, 21):
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise Breach("a length of more than four bytes")


def publish(found: Packet, version: int) -> Publish:
    qos = found.first >> 1 & 3
    if qos == 3:
        raise Breach("a PUBLISH of QoS 3")
    end = 2 + int.from_bytes(found.body[:2], "big")
    topic, packet_id = found.body[2:end].decode(), 0
    if qos:
        packet_id, end = int.from_bytes(found.body[end : end + 2], "big"), end + 2
        if not packet_id:
            raise Breach("packet id 0")
    alias = 0
    if version == 5:
        length, end = variable(found.body, end)
        alias, end = topic_alias(found.body[end : end + length]), end + length
    return Publish(topic, found.body[end:], qos, bool(found.first & 1), bool(found.first & 8), packet_id, alias)


def topic_alias(properties: bytes) -> int:
    """The Topic Alias among the properties of a PUBLISH (MQTT 5 section 3.3.2.3); 0 where there is none."""
    at = 0
    while at < len(properties):
        kind, at = properties[at], at + 1
        if kind == 0x23:
            return int.from_bytes(properties[at : at + 2], "big")
        if kind == 0x0B:  # subscription identifier
            _, at = variable(properties, at)
        elif kind in (0x01, 0x02):  # payload format, message expiry
            at += 1 if kind == 0x01 else 4
        elif kind in (0x03, 0x08, 0x09, 0x26):  # texts and bytes with their length; a user property has two
            for _ in range(2 if kind == 0x26 else 1):
                at += 2 + int.from_bytes(properties[at : at + 2], "big")
        else:
            raise Breach(f"a PUBLISH with property 0x{kind:02x}")
    return 0


class Splitter:
    """Packets out of a stream of bytes."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[Packet]:
        self._bytes += data
        while len(self._bytes) >= 2:
            try:
                size, start = variable(self._bytes, 1)
            except IndexError:
                return
            if len(self._bytes) < start + size:
                return
            raw = bytes(self._bytes[: start + size])
            del self._bytes[: start + size]
            yield Packet(raw[0], raw[start:], raw)


def reset(stream: socket.socket) -> None:
    """Ends a connection by RST: what is under way is lost."""
    try:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.shutdown(socket.SHUT_RD)  # wakes who reads it; says nothing to the other side
    except OSError:
        pass
    stream.close()
