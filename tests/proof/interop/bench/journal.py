"""What a witness on the wire between the gateway and the cloud has seen: what was sent, what the broker acknowledged, and breaches of ours.

It tells whose a missing message is: acknowledged by the broker and gone, it is the broker's; else ours."""

import threading
from typing import NamedTuple

from bench import wire


class Greeting(NamedTuple):
    """One CONNECT and what became of it."""

    version: int
    clean: bool
    # The CONNACK's code; None where the broker closed without one.
    code: int | None
    session_present: bool


Key = tuple[str, bytes]


class Journal:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.greetings: list[Greeting] = []
        self.sent: dict[Key, int] = {}  # how often
        self.acknowledged: dict[Key, int] = {}  # by the broker, with the QoS it was sent with
        self.refused: dict[Key, int] = {}  # with this reason code
        self.answers: dict[int, str] = {}  # to a PUBLISH of that QoS
        self.closed_on: set[int] = set()  # QoS of a PUBLISH that was the last thing said before the broker closed
        self.breaches: list[str] = []
        self._open: dict[int, tuple[Key, int]] = {}  # packet id -> what was sent under it last

    def connection(self) -> "Connection":
        return Connection(self, self._lock)

    def distinct(self) -> int:
        return len(self.sent)

    def unacknowledged(self) -> int:
        with self._lock:
            return sum(1 for key in self.sent if key not in self.acknowledged)

    def versions(self) -> list[Greeting]:
        with self._lock:
            return list(self.greetings)


class Connection:
    """One connection's two streams."""

    def __init__(self, journal: Journal, lock: threading.Lock) -> None:
        self._journal, self._lock = journal, lock
        self._version = 4
        self._clean = False
        self._greeted = False
        self._last_publish: int | None = None  # QoS, while nothing has come back since
        self._topics: dict[int, str] = {}  # by their aliases

    def up(self, packet: wire.Packet) -> wire.Publish | None:
        """The gateway says this; the PUBLISH, if it is one with an acknowledgement to come."""
        journal = self._journal
        with self._lock:
            if packet.kind == wire.CONNECT:
                self._version, self._clean = packet.body[6], bool(packet.body[7] & 2)
            if packet.kind != wire.PUBLISH:
                return None
            message = wire.publish(packet, self._version)
            self._last_publish = message.qos
            topic = self._topic(message)
            if not message.qos:
                return None
            key = (topic, message.payload)
            number, other = message.packet_id, journal._open.get(message.packet_id)
            if other and other[0] != key and other[0] not in journal.acknowledged and other[0] not in journal.refused:
                journal.breaches.append(f"packet id {number} was used for another message while the first was open")
            if key in journal.sent and not message.dup and other and other[0] == key:
                journal.breaches.append(f"packet id {number} was said again without DUP")
            journal.sent[key] = journal.sent.get(key, 0) + 1
            journal._open[number] = (key, message.qos)
            return message

    def _topic(self, message: wire.Publish) -> str:
        if message.alias and message.topic:
            self._topics[message.alias] = message.topic
        if message.topic:
            return message.topic
        if message.alias not in self._topics:
            self._journal.breaches.append(f"the topic alias {message.alias} stands for nothing")
        return self._topics.get(message.alias, "")

    def down(self, packet: wire.Packet) -> wire.Packet:
        """The broker says this; it counts from here on, whether or not the gateway gets it."""
        journal = self._journal
        with self._lock:
            if packet.kind == wire.CONNACK:
                self._greeted = True
                present = bool(packet.body[0] & 1)
                journal.greetings.append(Greeting(self._version, self._clean, packet.body[1], present))
                if not packet.body[1] and not present:
                    journal._open.clear()  # packet ids begin anew
            if packet.kind in (wire.PUBACK, wire.PUBREC, wire.DISCONNECT):
                self._answered(packet)
            return packet

    def _answered(self, packet: wire.Packet) -> None:
        journal = self._journal
        if packet.kind == wire.DISCONNECT:
            if self._last_publish is not None:
                journal.answers[self._last_publish] = f"DISCONNECT 0x{packet.body[0] if packet.body else 0:02x}"
            return
        found = journal._open.get(packet.packet_id)
        if not found:
            return
        (key, qos), reason = found, packet.reason(self._version)
        journal.answers.setdefault(qos, wire.NAMES[packet.kind] + (f" 0x{reason:02x}" if reason >= wire.FAILURE else ""))
        self._last_publish = None
        if reason >= wire.FAILURE:
            journal.refused[key] = reason
        else:
            journal.acknowledged[key] = qos

    def closed_by_broker(self) -> None:
        with self._lock:
            if not self._greeted:
                self._journal.greetings.append(Greeting(self._version, self._clean, None, False))
            if self._last_publish is not None:
                self._journal.closed_on.add(self._last_publish)
