"""Clients whose sessions outlive their connections, and the gateway's power: they remember what MQTT 3.1.1 has a client remember, and no more."""

import random
import threading

from bench.mqtt import DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, RETAIN, SUBACK, SUBSCRIBE, Stream, publication, string
from bench.waiting import PATIENCE, Missed

DUP = 0x08


class Member:
    """One client. `lost_sessions` counts the connections whose session should have been there."""

    def __init__(self, name):
        self.name = name
        self.lost_sessions = 0
        self._is_known = False

    def connect(self, port):
        stream = Stream(port, self.name, clean=False)
        self.lost_sessions += self._is_known and not stream.present
        return stream


class Subscriber(Member):
    """`got` has the texts in the order they came; of QoS 2 a message that is sent again before its PUBREL is the same one [MQTT-4.3.3-2]."""

    def __init__(self, name, topic, qos):
        super().__init__(name)
        self.topic, self.qos = topic, qos
        self.got = []
        self._half = set()

    def subscribe(self, port):
        stream = self.connect(port)
        stream.patience(PATIENCE)
        stream.send(SUBSCRIBE, b"\0\1" + string(self.topic) + bytes([self.qos]))
        while stream.packet()[0] != SUBACK:
            pass
        # Only now does the gateway owe a session.
        self._is_known = True
        stream.send(DISCONNECT, b"")
        stream.close()

    def come_and_go(self, port, ends, seed):
        """Until told, or until the power is gone. Every other visit ends without a word."""
        chance = random.Random(seed)
        try:
            for visit in range(1 << 30):
                if ends.wait(chance.uniform(0, 1)):
                    return
                stream = self.connect(port)
                self._take(stream, chance.uniform(0.2, 1.5), ends)
                if visit % 2:
                    stream.reset()
                else:
                    stream.send(DISCONNECT, b"")
                    stream.close()
        except (OSError, EOFError):
            return

    def drain(self, port, wanted):
        """Until it has everything, and nothing more comes before the answer to a ping."""
        stream = self.connect(port)
        stream.patience(PATIENCE)
        left = set(wanted) - set(self.got)
        try:
            while left:
                self._hear(stream, *stream.packet())
                left.discard(self.got[-1] if self.got else None)
            stream.send(PINGREQ, b"")
            while (packet := stream.packet())[0] != PINGRESP:
                self._hear(stream, *packet)
        except TimeoutError:
            pass
        stream.send(DISCONNECT, b"")
        stream.close()

    def _take(self, stream, seconds, ends):
        timer = threading.Event()
        clock = threading.Timer(seconds, timer.set)
        clock.start()
        stream.patience(0.1)
        try:
            while not timer.is_set() and not ends.is_set():
                try:
                    self._hear(stream, *stream.packet())
                except TimeoutError:
                    pass
        finally:
            clock.cancel()

    def _hear(self, stream, first, body):
        if first & 0xF0 == PUBLISH:
            _, packet_id, text = publication(first, body)
            name = packet_id.to_bytes(2, "big")
            if first & 0x06 == 0x02:
                self.got.append(text)
                stream.send(PUBACK, name)
            else:
                if packet_id not in self._half:
                    self._half.add(packet_id)
                    self.got.append(text)
                stream.send(PUBREC, name)
        elif first == PUBREL:
            self._half.discard(int.from_bytes(body[:2], "big"))
            stream.send(PUBCOMP, body[:2])


class Publisher(Member):
    """Says numbered texts to topics by turns, each with up to `bulk` bytes behind its number. `acknowledged` are those that the gateway answers for:
    after PUBACK, or PUBREC."""

    WINDOW = 20

    def __init__(self, name, qos, topics, bulk=0, retain=False):
        super().__init__(name)
        self.qos, self.acknowledged = qos, []
        self._topics, self._bulk, self._retain = topics, bulk, RETAIN if retain else 0
        self._number, self._packet_id = 0, 0
        # Packet id -> topic and text, then None between PUBREC and PUBCOMP; in the order they were sent.
        self._open = {}

    def newest(self, topic):
        """What a topic may have retained: its last acknowledged text, or one that was said later."""
        last = next((text for of, text in reversed(self.acknowledged) if of == topic), None)
        first = int(last.split()[1]) if last else 0
        said = [self._text(number) for number in range(first, self._number) if self._topics[number % len(self._topics)] == topic]
        return said if last else [None, *said]

    def _text(self, number):
        bulk = random.Random(f"{self.name} {number}").randrange(self._bulk + 1)
        return f"{self.name} {number}" + (" " + "." * bulk if bulk else "")

    def publish(self, port, ends):
        """Until told, or until the power is gone; then what is open is said again by the next call."""
        try:
            stream = self.connect(port)
            self._is_known = True
            self._again(stream)
            stream.patience(0.2)
            while not ends.is_set():
                while len(self._open) < self.WINDOW:
                    self._say(stream)
                try:
                    self._hear(stream, *stream.packet())
                except TimeoutError:
                    pass
        except (OSError, EOFError):
            return

    def finish(self, port, more=0):
        """Says again what is open, and some more, and waits for all of it."""
        stream = self.connect(port)
        self._again(stream)
        for _ in range(more):
            self._say(stream)
        stream.patience(PATIENCE)
        try:
            while self._open:
                self._hear(stream, *stream.packet())
        except TimeoutError:
            raise Missed(f"{self.name} waited {PATIENCE} s for {len(self._open)} acknowledgements") from None
        stream.send(DISCONNECT, b"")
        stream.close()

    def _say(self, stream):
        self._packet_id = self._packet_id % 65535 + 1
        while self._packet_id in self._open:
            self._packet_id = self._packet_id % 65535 + 1
        topic, text = self._topics[self._number % len(self._topics)], self._text(self._number)
        self._number += 1
        self._open[self._packet_id] = (topic, text)
        self._send(stream, self._packet_id, 0)

    def _send(self, stream, packet_id, flags):
        topic, text = self._open[packet_id]
        stream.send(PUBLISH | flags | self._retain | self.qos << 1, string(topic) + packet_id.to_bytes(2, "big") + text.encode())

    def _again(self, stream):
        for packet_id, said in self._open.items():
            if said:
                self._send(stream, packet_id, DUP)
            else:
                stream.send(PUBREL, packet_id.to_bytes(2, "big"))

    def _hear(self, stream, first, body):
        packet_id = int.from_bytes(body[:2], "big")
        if first in (PUBACK, PUBREC) and self._open.get(packet_id):
            self.acknowledged.append(self._open[packet_id])
            self._open[packet_id] = None
        if first == PUBREC:
            stream.send(PUBREL, body[:2])
        elif first in (PUBACK, PUBCOMP):
            self._open.pop(packet_id, None)
