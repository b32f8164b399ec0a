"""Just enough of an MQTT 3.1.1 client to watch, to command, and to know what was acknowledged."""

import json
import re
import socket
import threading
import time
from typing import NamedTuple

from bench.waiting import PATIENCE, Missed

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 0x10, 0x20, 0x30, 0x40, 0x82, 0x90
RETAIN, QOS_1 = 0x01, 0x02


class Message(NamedTuple):
    topic: str
    text: str
    retained: bool

    def json(self):
        return json.loads(self.text)


def _string(text):
    return len(text.encode()).to_bytes(2, "big") + text.encode()


class Client:
    """Connected and subscribed to everything once it is made."""

    def __init__(self, port, name="bench"):
        self._messages = []
        self._promised = {}  # packet id -> what was published under it and is not acknowledged
        self.acknowledged = []
        self._ended = False
        self._changed = threading.Condition()
        self._stream = socket.create_connection(("127.0.0.1", port), 5)
        try:
            self._send(CONNECT, _string("MQTT") + b"\4\2\0\0" + _string(name))
            self._expect(CONNACK)
            self._send(SUBSCRIBE, b"\0\1" + _string("#") + b"\0")
            self._expect(SUBACK)
        except (OSError, EOFError):
            self._stream.close()
            raise
        self._stream.settimeout(None)
        threading.Thread(target=self._read, daemon=True).start()

    def close(self):
        # Another thread reads: only a shutdown wakes it.
        try:
            self._stream.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._stream.close()

    def publish(self, topic, payload, retain=False):
        if not isinstance(payload, str):
            payload = json.dumps(payload)
        self._send(PUBLISH | (RETAIN if retain else 0), _string(topic) + payload.encode())

    def publish_and_hear(self, topic, payload, window):
        """Publishes with QoS 1, once fewer than `window` wait for their acknowledgement. What has one is in `acknowledged`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._ended or len(self._promised) < window, PATIENCE):
                raise Missed(f"waited {PATIENCE} s for an acknowledgement")
            if self._ended:
                raise EOFError
            number = next(number for number in range(1, 65536) if number not in self._promised)
            self._promised[number] = payload
        self._send(PUBLISH | QOS_1, _string(topic) + number.to_bytes(2, "big") + payload.encode())

    def mark(self):
        """A place to look from: behind everything that has come."""
        with self._changed:
            return len(self._messages)

    def since(self, mark=0, topic=None):
        with self._changed:
            return [m for m in self._messages[mark:] if topic is None or m.topic == topic]

    def wait(self, topic, pattern="", mark=0, timeout=PATIENCE):
        """The first message from the mark on at this topic whose text matches."""
        return self.wait_for(f"{topic} like {pattern!r}", lambda m: m.topic == topic and re.search(pattern, m.text), mark, timeout)

    def wait_for(self, what, wanted, mark=0, timeout=PATIENCE):
        deadline = time.monotonic() + timeout
        with self._changed:
            at = mark
            while True:
                for message in self._messages[at:]:
                    if wanted(message):
                        return message
                at = len(self._messages)
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    last = "\n  ".join(f"{m.topic} {m.text}" for m in self._messages[-8:])
                    raise Missed(f"waited {timeout} s for {what}; the last messages are\n  {last}")

    def _send(self, first, body):
        size, left = b"", len(body)
        while True:
            left, low = left >> 7, left & 0x7F
            size += bytes([low | (0x80 if left else 0)])
            if not left:
                break
        self._stream.sendall(bytes([first]) + size + body)

    def _expect(self, first):
        """Retained messages may come before the SUBACK."""
        while True:
            got, body = self._packet()
            if got == first:
                return
            self._take(got, body)

    def _read(self):
        try:
            while True:
                self._take(*self._packet())
        except (OSError, EOFError):
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _take(self, first, body):
        if first & 0xF0 == PUBACK:
            with self._changed:
                self.acknowledged.append(self._promised.pop(int.from_bytes(body[:2], "big")))
                self._changed.notify_all()
        if first & 0xF0 != PUBLISH:
            return
        end = 2 + int.from_bytes(body[:2], "big")
        message = Message(body[2:end].decode(), body[end:].decode("utf-8", "replace"), bool(first & RETAIN))
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()

    def _packet(self):
        first = self._bytes(1)[0]
        size = shift = 0
        while True:
            byte = self._bytes(1)[0]
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return first, self._bytes(size)

    def _bytes(self, count):
        got = b""
        while len(got) < count:
            more = self._stream.recv(count - len(got))
            if not more:
                raise EOFError
            got += more
        return got
