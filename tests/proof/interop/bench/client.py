"""A small strict MQTT 3.1.1 client. It stands at the cloud, and beside the gateway as what publishes; so it must not share a library with
either. It ends with a `Breach` when the other side does what the specification forbids."""

import socket
import ssl
import threading
from collections.abc import Iterable
from typing import NamedTuple

from bench import wire
from bench.waiting import PATIENCE, Missed


class Login(NamedTuple):
    user: str
    password: str


class Refused(Exception):
    """CONNACK with a return code other than 0, which is the argument."""


class Client:
    """Connected once it is made. A thread reads; what comes is kept in `messages`."""

    def __init__(
        self, port: int, name: str, login: Login | None = None, *, clean: bool = True, tls: ssl.SSLContext | None = None, held: set[int] | None = None
    ) -> None:
        self.messages: list[wire.Publish] = []
        self.acknowledged: list[tuple[str, bytes]] = []
        self.ended: str | None = None
        self._granted = 2
        # QoS 2 packet ids that were received and not released; they outlive the connection together with the session.
        self._held = set() if held is None else held
        self._open: dict[int, tuple[str, bytes]] = {}
        self._answers: dict[int, bytes] = {}
        self._pongs = 0
        self._next = 0
        self._sending = threading.Lock()
        self.changed = threading.Condition()
        self._splitter = wire.Splitter()
        stream = socket.create_connection(("127.0.0.1", port), 10)
        try:
            self._stream = tls.wrap_socket(stream, server_hostname="localhost") if tls else stream
            flags = (2 if clean else 0) | (0xC0 if login else 0)
            body = wire.text("MQTT") + bytes([4, flags, 0, 0]) + wire.text(name)
            if login:
                body += wire.text(login.user) + wire.text(login.password)
            self._send(wire.CONNECT << 4, body)
            greeting = self._first()
            if greeting.kind != wire.CONNACK or len(greeting.body) != 2:
                raise wire.Breach("something else than a CONNACK came first")
            if greeting.body[1]:
                raise Refused(greeting.body[1])
            self.session_present = bool(greeting.body[0] & 1)
            if not self.session_present:
                self._held.clear()
            self._stream.settimeout(None)
        except BaseException:
            stream.close()
            raise
        threading.Thread(target=self._read, daemon=True).start()

    def close(self) -> None:
        """Leaves in order; the session stays where it was asked for."""
        try:
            self._send(wire.DISCONNECT << 4, b"")
            self._stream.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._stream.close()

    # ---- what it says ----

    def subscribe(self, topic_filter: str, qos: int = 1) -> int:
        """The QoS that was granted."""
        packet_id = self._packet_id()
        self._send(0x82, packet_id.to_bytes(2, "big") + wire.text(topic_filter) + bytes([qos]))
        [code] = self._answer(packet_id, "SUBACK")
        if code == wire.FAILURE:
            raise Refused(code)
        if code > qos:
            raise wire.Breach(f"QoS {code} was granted where {qos} was asked for")
        self._granted = code
        return code

    def send(self, topic: str, payload: str | bytes, qos: int = 1, retain: bool = False) -> None:
        """Publishes, and does not wait."""
        raw = payload.encode() if isinstance(payload, str) else payload
        body = wire.text(topic)
        if qos:
            packet_id = self._packet_id()
            body += packet_id.to_bytes(2, "big")
            with self.changed:
                self._open[packet_id] = (topic, raw)
        self._send(wire.PUBLISH << 4 | qos << 1 | retain, body + raw)

    def publish(self, topic: str, payload: str | bytes, qos: int = 1, retain: bool = False) -> None:
        """Publishes, and waits until it is acknowledged."""
        self.send(topic, payload, qos, retain)
        self._wait(lambda: not self._open, f"the acknowledgement of {topic}")

    def publish_all(self, messages: Iterable[tuple[str, str, int]], window: int = 100) -> None:
        """Publishes with so many in flight, and waits until all are acknowledged."""
        for topic, payload, qos in messages:
            self._wait(lambda: len(self._open) < window, "an acknowledgement")
            self.send(topic, payload, qos)
        self._wait(lambda: not self._open, "the last acknowledgements")

    def ping(self) -> None:
        """There and back: what the broker had to say before has come."""
        before = self._pongs
        self._send(wire.PINGREQ << 4, b"")
        self._wait(lambda: self._pongs > before, "PINGRESP")

    # ---- what it hears ----

    def heard(self, topic: str, payload: str | None = None) -> list[wire.Publish]:
        with self.changed:
            return [m for m in self.messages if m.topic == topic and (payload is None or m.payload == payload.encode())]

    def wait(self, topic: str, payload: str | None = None, timeout: float = PATIENCE) -> wire.Publish:
        self._wait(lambda: self.heard(topic, payload), f"{topic} {payload or ''}", timeout)
        return self.heard(topic, payload)[0]

    def _wait(self, condition, what: str, timeout: float = PATIENCE) -> None:
        with self.changed:
            if not self.changed.wait_for(lambda: self.ended is not None or condition(), timeout):
                raise Missed(f"waited {timeout:.0f} s for {what}")
            if not condition():
                raise EOFError(f"the connection ended ({self.ended}) while {what} was awaited")

    def _answer(self, packet_id: int, what: str) -> bytes:
        self._wait(lambda: packet_id in self._answers, what)
        return self._answers.pop(packet_id)

    def _packet_id(self) -> int:
        with self.changed:
            while True:
                self._next = self._next % 65535 + 1
                if self._next not in self._open:
                    return self._next

    def _send(self, first: int, body: bytes) -> None:
        with self._sending:
            self._stream.sendall(wire.packet(first, body))

    def _first(self) -> wire.Packet:
        while True:
            data = self._stream.recv(1)  # no byte of what follows is taken
            if not data:
                raise EOFError("closed without a CONNACK")
            for found in self._splitter.feed(data):
                return found

    def _read(self) -> None:
        why = "closed"
        try:
            while data := self._stream.recv(65536):
                for found in self._splitter.feed(data):
                    self._take(found)
        except (OSError, ValueError) as error:
            why = str(error)
        except wire.Breach as error:
            why = f"breach: {error}"
        with self.changed:
            self.ended = why
            self.changed.notify_all()

    def _take(self, found: wire.Packet) -> None:
        with self.changed:
            match found.kind:
                case wire.PUBLISH:
                    self._take_publish(wire.publish(found, 4))
                case wire.PUBACK | wire.PUBCOMP:
                    if found.packet_id not in self._open:
                        raise wire.Breach(f"packet id {found.packet_id} was acknowledged and is not in use")
                    self.acknowledged.append(self._open.pop(found.packet_id))
                case wire.PUBREC:
                    self._send(0x62, found.body[:2])
                case wire.PUBREL:
                    if found.first != 0x62:
                        raise wire.Breach("a PUBREL with other flags than 2")
                    self._held.discard(found.packet_id)
                    self._send(wire.PUBCOMP << 4, found.body[:2])
                case wire.SUBACK:
                    self._answers[found.packet_id] = found.body[2:]
                case wire.PINGRESP:
                    self._pongs += 1
                case _:
                    raise wire.Breach(f"packet type {found.kind}")
            self.changed.notify_all()

    def _take_publish(self, message: wire.Publish) -> None:
        fresh = True
        if message.qos == 1:
            self._send(wire.PUBACK << 4, message.packet_id.to_bytes(2, "big"))
        elif message.qos == 2:
            fresh = message.packet_id not in self._held
            self._held.add(message.packet_id)
            self._send(wire.PUBREC << 4, message.packet_id.to_bytes(2, "big"))
        if message.qos > self._granted:
            raise wire.Breach(f"QoS {message.qos} came where {self._granted} was granted")
        if fresh:
            self.messages.append(message)
