"""Just enough of an MQTT 3.1.1 client to watch, to command, and to know what was acknowledged. Clients with sessions are in bench/sessions.py."""

import json
import re
import socket
import struct
import threading
import time
from typing import NamedTuple

from bench.waiting import PATIENCE, Missed

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 0x10, 0x20, 0x30, 0x40, 0x50, 0x62, 0x70
SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 0x82, 0x90, 0xC0, 0xD0, 0xE0
RETAIN, QOS_1 = 0x01, 0x02

# One comes in after the other. QEMU's user network listens with a queue of one: of fifty that come at once most wait until the host's kernel says
# their first bytes again, up to 30 s later, and the machine knows nothing of them before.
_DOOR = threading.Lock()


class Message(NamedTuple):
    topic: str
    text: str
    retained: bool

    def json(self):
        return json.loads(self.text)


def string(text):
    return len(text.encode()).to_bytes(2, "big") + text.encode()


class Stream:
    """A connection, packet by packet. Greeted and welcome once it is made; `present` says whether there was a session."""

    def __init__(self, port, client, clean=True):
        self._came = bytearray()
        with _DOOR:
            self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
            try:
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.send(CONNECT, string("MQTT") + bytes([4, 2 if clean else 0, 0, 0]) + string(client))
                first, body = self.packet()
                if first != CONNACK or body[1]:
                    raise EOFError(f"{client} is not welcome")
            except (OSError, EOFError):
                self._socket.close()
                raise
        self.present = bool(body[0] & 1)
        self.patience(None)

    def patience(self, seconds):
        """How long a packet may take; TimeoutError is raised then, and nothing lost."""
        self._socket.settimeout(seconds)

    def send(self, first, body):
        size, left = b"", len(body)
        while True:
            left, low = left >> 7, left & 0x7F
            size += bytes([low | (0x80 if left else 0)])
            if not left:
                break
        self._socket.sendall(bytes([first]) + size + body)

    def packet(self):
        """Its first byte and its body."""
        while True:
            size = shift = 0
            for at, byte in enumerate(self._came[1:5], 2):
                size |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    if len(self._came) < at + size:
                        break
                    first, body = self._came[0], bytes(self._came[at : at + size])
                    del self._came[: at + size]
                    return first, body
            more = self._socket.recv(65536)
            if not more:
                raise EOFError
            self._came += more

    def close(self):
        # Another thread may read: only a shutdown wakes it.
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()

    def reset(self):
        """Ends without a word."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


def publication(first, body):
    """Topic, packet id (0 at QoS 0) and text of a PUBLISH."""
    end = 2 + int.from_bytes(body[:2], "big")
    at = end + 2 if first & 0x06 else end
    return body[2:end].decode(), int.from_bytes(body[end:at], "big"), body[at:].decode("utf-8", "replace")


class Client:
    """Connected and subscribed to everything once it is made."""

    def __init__(self, port, name="bench"):
        self._messages = []
        self._promised = {}  # packet id -> what was published under it and is not acknowledged
        self.acknowledged = []
        self._ended = False
        self._changed = threading.Condition()
        self._stream = Stream(port, name)
        try:
            self._stream.patience(5)
            self._stream.send(SUBSCRIBE, b"\0\1" + string("#") + b"\0")
            self._expect(SUBACK)
        except (OSError, EOFError):
            self._stream.close()
            raise
        self._stream.patience(None)
        threading.Thread(target=self._read, daemon=True).start()

    def close(self):
        self._stream.close()

    def publish(self, topic, payload, retain=False):
        if not isinstance(payload, str):
            payload = json.dumps(payload)
        self._stream.send(PUBLISH | (RETAIN if retain else 0), string(topic) + payload.encode())

    def publish_and_hear(self, topic, payload, window):
        """Publishes with QoS 1, once fewer than `window` wait for their acknowledgement. What has one is in `acknowledged`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._ended or len(self._promised) < window, PATIENCE):
                raise Missed(f"waited {PATIENCE} s for an acknowledgement")
            if self._ended:
                raise EOFError
            number = next(number for number in range(1, 65536) if number not in self._promised)
            self._promised[number] = payload
        self._stream.send(PUBLISH | QOS_1, string(topic) + number.to_bytes(2, "big") + payload.encode())

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

    def _expect(self, first):
        """Retained messages may come before the SUBACK."""
        while True:
            got, body = self._stream.packet()
            if got == first:
                return
            self._take(got, body)

    def _read(self):
        try:
            while True:
                self._take(*self._stream.packet())
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
        topic, _, text = publication(first, body)
        message = Message(topic, text, bool(first & RETAIN))
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()
