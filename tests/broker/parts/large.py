"""Payloads of many megabytes to many subscribers: what arrives, how long it takes, and what memory it takes."""

import socket
import threading
import time
import zlib

from bench import wire
from stand.peer import V5, V311, Peer, connect, publish, subscribe
from stand.section import Section
from stand.servers import PANIC, Mosquitto, Server, Tidegate

TITLE = "Large payloads"
HOW = """
One message at QoS 1 to subscribers at QoS 1 that read at once, byte for byte, with `max_packet = "256MiB"`; Mosquitto's own limit is MQTT's. The largest has the largest remaining
length that MQTT has, 268,435,455 bytes. Told is how much the memory that no file is behind grew at most over what it was before, in payloads, and the time from the first byte
sent to the last byte read by anyone.
"""

# The longest body of a packet [MQTT 1.5.5].
LONGEST = 268_435_455
TOPIC = "large"
MIB = 1 << 20
# Payload, subscribers.
LOADS = [(64 * MIB, 20), (LONGEST - 2 - len(TOPIC) - 2, 4)]
# One payload, the buffer that it is gathered in and grows by up to as much again, and what is in the sockets' buffers.
COPIES = 2.2
PATIENCE = 120


def run(section: Section, quick: bool) -> None:
    rows, panics = [], 0
    for size, count in LOADS:
        size = size // 16 if quick else size
        cells = []
        for kind, settings in ((Tidegate, {"max_packet": "256MiB"}), (Mosquitto, {})):
            with kind(**settings) as server:
                right, grown, seconds = pour(server, size, count)
                panics += len(server.said(PANIC))
            cells.append(f"{right} of {count} right, {grown:.2f} payloads, {seconds:.1f} s")
            if kind is Tidegate:
                section.hold(f"{size / MIB:,.0f} MiB to {count} subscribers: right; memory grows by", f"{count}; <= {COPIES} payloads", f"{right}; {grown:.2f} payloads", right == count and grown <= COPIES)
        rows.append([f"{size / MIB:,.1f} MiB to {count}", *cells])
    section.table(["", "tidegate", "Mosquitto"], rows)
    refused(section)
    section.hold("panics in the log", "0", str(panics), panics == 0, top=False)


def pour(server: Server, size: int, count: int) -> tuple[int, float, float]:
    """How many got it whole, by how many payloads the memory grew at most, and how long it took."""
    block = bytes(range(256)) * 4096
    payload = memoryview((block * (size // len(block) + 1))[:size])
    # Without the payload, whose length is told in front of it.
    body = wire.text(TOPIC) + b"\0\1"
    head = fixed_header(len(body) + size) + body
    whole = zlib.crc32(payload)
    takers = [Taker(server.port, number, size) for number in range(count)]
    before = server.own_memory()
    ends, most = threading.Event(), [before]
    watch = threading.Thread(target=sample, args=(server, ends, most))
    watch.start()
    begin = time.monotonic()
    for taker in takers:
        taker.start()
    try:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as stream:
            stream.sendall(connect(V311, "pours"))
            stream.recv(4)
            stream.sendall(head)
            stream.sendall(payload)
            for taker in takers:
                taker.join(PATIENCE)
    finally:
        ends.set()
        watch.join()
    seconds = time.monotonic() - begin
    return sum(taker.sum == whole for taker in takers), (max(most) - before) * 1.024e6 / size, seconds


def fixed_header(length: int) -> bytes:
    """Of a PUBLISH at QoS 1."""
    found = bytearray([0x32])
    while True:
        length, low = divmod(length, 128)
        found.append(low | (0x80 if length else 0))
        if not length:
            return bytes(found)


class Taker(threading.Thread):
    """A subscriber that sums up what comes, and keeps nothing. `sum` is None until it has all of it."""

    def __init__(self, port: int, number: int, size: int) -> None:
        super().__init__(daemon=True)
        self.sum: int | None = None
        self._size = size
        self._stream = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._stream.sendall(connect(V311, f"takes-{number}") + subscribe(V311, 1, TOPIC, 1))
        self._exactly(4 + 5)

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            more = self._stream.recv(count - len(found))
            if not more:
                raise EOFError("the broker closed")
            found += more
        return found

    def run(self) -> None:
        with self._stream:
            body = len(wire.text(TOPIC)) + 2
            self._exactly(len(fixed_header(body + self._size)) + body)
            left, found, buffer = self._size, 0, bytearray(MIB)
            while left:
                count = self._stream.recv_into(buffer, min(left, MIB))
                if not count:
                    return
                found = zlib.crc32(memoryview(buffer)[:count], found)
                left -= count
            self.sum = found


def sample(server: Server, ends: threading.Event, most: list[float]) -> None:
    while not ends.wait(0.01):
        most[0] = max(most[0], server.own_memory())


def refused(section: Section) -> None:
    """One that announces a byte more than the limit, and would send it."""
    with Tidegate(max_packet="64MiB") as server, Peer(server.port, V5) as client:
        client.connect("announces")
        before = server.own_memory()
        client.send(publish(V5, TOPIC, bytes(16), 1)[:1] + fixed_header(64 * MIB + 1)[1:])
        told = client.answer()
        grown = server.own_memory() - before
    kept = told == "DISCONNECT 0x95, closes" and grown < 1
    section.hold("one whose header announces more than `max_packet`: the answer; memory grows by", "DISCONNECT 0x95, closes; < 1 MB", f"{told}; {grown:.1f} MB", kept)
