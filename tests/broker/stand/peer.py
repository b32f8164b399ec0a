"""A client that sends what it is told, byte by byte, and says what came back in words."""

import socket
import time

from bench import wire

V311, V5 = 4, 5
VERSIONS = {V311: "3.1.1", V5: "5"}
# No probe waits longer for what must come.
PATIENCE = 10.0
# What may still come behind the last thing that had to: acknowledgements overtake nothing, but a broker may answer a ping first.
QUIET = 0.15

KINDS = {
    wire.CONNACK: "CONNACK", wire.PUBLISH: "PUBLISH", wire.PUBACK: "PUBACK", wire.PUBREC: "PUBREC", wire.PUBREL: "PUBREL",
    wire.PUBCOMP: "PUBCOMP", wire.SUBACK: "SUBACK", wire.UNSUBACK: "UNSUBACK", wire.DISCONNECT: "DISCONNECT", wire.AUTH: "AUTH",
}  # fmt: skip


def prop(*parts: tuple[int, bytes]) -> bytes:
    """The inside of a block of properties: identifiers and their bytes as they are."""
    return b"".join(bytes([kind]) + value for kind, value in parts)


def block(version: int, inside: bytes = b"") -> bytes:
    """A block of properties; nothing in 3.1.1."""
    return wire.packet(0, inside)[1:] if version == V5 else b""


def connect(version: int, client: str, flags: int = 2, keep_alive: int = 60, properties: bytes = b"", rest: bytes = b"") -> bytes:
    body = wire.text("MQTT") + bytes([version, flags]) + keep_alive.to_bytes(2, "big") + block(version, properties) + wire.text(client)
    return wire.packet(0x10, body + rest)


def will(version: int, topic: str, payload: str, properties: bytes = b"") -> bytes:
    return block(version, properties) + wire.text(topic) + wire.text(payload)


def subscribe(version: int, packet_id: int, topic_filter: str | bytes, options: int = 0, properties: bytes = b"") -> bytes:
    return wire.packet(0x82, packet_id.to_bytes(2, "big") + block(version, properties) + wire.text(topic_filter) + bytes([options]))


def publish(
    version: int, topic: str | bytes, payload: str | bytes, qos: int = 0, packet_id: int = 1, *, retain: bool = False, dup: bool = False, properties: bytes = b""
) -> bytes:
    raw = payload.encode() if isinstance(payload, str) else payload
    body = wire.text(topic) + (packet_id.to_bytes(2, "big") if qos else b"") + block(version, properties) + raw
    return wire.packet(0x30 | dup << 3 | qos << 1 | retain, body)


def ack(kind: int, packet_id: int) -> bytes:
    return bytes([kind << 4 | (2 if kind == wire.PUBREL else 0), 2]) + packet_id.to_bytes(2, "big")


class Peer:
    """One connection. What was read and not asked for stays in `came`."""

    def __init__(self, port: int, version: int) -> None:
        self.version, self.closed = version, False
        self.came: list[wire.Packet] = []
        self._splitter = wire.Splitter()
        self._stream = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def send(self, data: bytes) -> None:
        """The broker may hang up in the middle of it."""
        try:
            self._stream.sendall(data)
        except OSError:
            pass

    def cut(self) -> None:
        """Ends without a goodbye."""
        wire.reset(self._stream)

    def read(self, timeout: float) -> bool:
        """Takes what comes within the time; whether anything did."""
        if self.closed:
            return False
        self._stream.settimeout(max(timeout, 0.001))
        try:
            data = self._stream.recv(1 << 16)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return False
        self.came += self._splitter.feed(data)
        return True

    def wait(self, *kinds: int, timeout: float = PATIENCE) -> wire.Packet | None:
        """The next packet of one of these kinds, out of `came`; None when the connection ends or the time is over."""
        deadline = time.monotonic() + timeout
        while True:
            for index, found in enumerate(self.came):
                if found.kind in kinds:
                    return self.came.pop(index)
            if self.closed or time.monotonic() > deadline:
                return None
            self.read(deadline - time.monotonic())

    def hang_up(self, timeout: float = PATIENCE) -> bool:
        """Whether the broker closes within the time."""
        deadline = time.monotonic() + timeout
        while not self.closed and time.monotonic() < deadline:
            self.read(deadline - time.monotonic())
        return self.closed

    def settle(self) -> list[wire.Packet]:
        """Everything that the broker has to say now: up to the answer to a ping, and a moment beyond."""
        self.send(b"\xc0\x00")
        self.wait(wire.PINGRESP)
        while self.read(QUIET):
            pass
        found, self.came = self.came, []
        return found

    def answer(self) -> str:
        """The same, in words."""
        told = [words(found, self.version) for found in self.settle()]
        return ", ".join(told + ["closes"] * self.closed) or "nothing"

    # ---- politely ----

    def connect(self, client: str, flags: int = 2, keep_alive: int = 60, properties: bytes = b"", rest: bytes = b"") -> bool:
        """Connects, must be welcome, and returns whether a session was there."""
        self.send(connect(self.version, client, flags, keep_alive, properties, rest))
        greeting = self.wait(wire.CONNACK)
        assert greeting and greeting.body[1] == 0, f"{client} is not welcome"
        self.greeting = greeting
        return bool(greeting.body[0] & 1)

    def subscribe(self, topic_filter: str, options: int = 0, properties: bytes = b"") -> int:
        """The code of the answer."""
        self.send(subscribe(self.version, 0x7001, topic_filter, options, properties))
        found = self.wait(wire.SUBACK)
        assert found, f"no answer to the subscription to {topic_filter}"
        return found.body[-1]

    def publish(self, topic: str, payload: str | bytes, qos: int = 0, packet_id: int = 1, *, retain: bool = False, properties: bytes = b"") -> int:
        """Publishes to the end of its handshake; the reason code of MQTT 5, 0 in 3.1.1."""
        self.send(publish(self.version, topic, payload, qos, packet_id, retain=retain, properties=properties))
        reason = 0
        if qos:
            found = self.wait(wire.PUBACK if qos == 1 else wire.PUBREC)
            assert found, f"no acknowledgement of {topic}"
            reason = found.reason(self.version)
        if qos == 2 and reason < wire.FAILURE:
            self.send(ack(wire.PUBREL, packet_id))
            assert self.wait(wire.PUBCOMP), f"no PUBCOMP for {topic}"
        return reason

    def take(self, count: int = 1, timeout: float = PATIENCE) -> list[wire.Publish]:
        """So many messages with their handshakes, fewer if no more come."""
        messages: list[wire.Publish] = []
        deadline = time.monotonic() + timeout
        while len(messages) < count:
            found = self.wait(wire.PUBLISH, wire.PUBREL, timeout=deadline - time.monotonic())
            if not found:
                break
            if found.kind == wire.PUBREL:
                self.send(ack(wire.PUBCOMP, found.packet_id))
                continue
            message = wire.publish(found, self.version)
            messages.append(message)
            if message.qos:
                self.send(ack(wire.PUBACK if message.qos == 1 else wire.PUBREC, message.packet_id))
        return messages

    def rest(self) -> list[wire.Publish]:
        """What else is there now."""
        return [wire.publish(found, self.version) for found in self.settle() if found.kind == wire.PUBLISH]

    def leave(self) -> None:
        self.send(b"\xe0\x00")
        self.hang_up()
        self._stream.close()


def words(found: wire.Packet, version: int) -> str:
    name = KINDS.get(found.kind, f"type {found.kind}")
    if found.kind == wire.CONNACK:
        return f"CONNACK 0x{found.body[1]:02x}"
    if found.kind == wire.SUBACK:
        return f"SUBACK 0x{found.body[-1]:02x}"
    if found.kind == wire.PUBLISH:
        return f"PUBLISH at QoS {found.first >> 1 & 3}"
    if found.kind == wire.DISCONNECT:
        return f"DISCONNECT 0x{found.body[0] if found.body else 0:02x}"
    reason = found.reason(version)
    return f"{name} 0x{reason:02x}" if reason else name
