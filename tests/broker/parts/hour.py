"""An hour of a bad neighbourhood, compressed: everything at once, and what is left afterwards must be exact."""

import random
import socket
import subprocess
import threading
import time

from bench import wire
from stand.load import command, figures, scaled
from stand.peer import V5, V311, VERSIONS, Peer, ack, connect, prop, publish, subscribe, will
from stand.section import Section
from stand.servers import PANIC, Server, Tidegate

TITLE = "An hour compressed"
HOW = """
At once, for two minutes, and with this broker alone: messages at QoS 1 over 1,000 topics, as fast as four publishers get their acknowledgements, while 200 clients come, subscribe to filters and shared filters, and go, half of them without a
goodbye; ten innocent subscribers who want every message of theirs; a subscriber who takes nothing of a flood, leaves and comes back; mutated packets of both versions; and peers that
connect and say nothing. Before it, messages were retained and queued for a client that is away; afterwards, these must be exact.
"""

MESSAGES = 1_000_000
# A fast broker takes a million in six seconds, in which few come and go: it goes on this long.
SECONDS = 120
MUTATED = 6_000
RETAINED, QUEUED = 1_000, 1_000
SILENT = 50
# How much later than without silent peers a greeting may come.
DELAY_MS = 100
# Growth of the resident memory in the second half that is noise of the allocator.
GROWTH_MB = 4.0
# The same for a storm of two seconds, whose second half is not long after the first buffers.
GROWTH_QUICK_MB = 12.0
CONNECTIONS = {"max_connections": 5_000, "max_queued": 20_000}


def run(section: Section, quick: bool) -> None:
    with Tidegate(**CONNECTIONS) as server:
        prepare(server)
        ends = threading.Event()
        memory: list[float] = []
        threads = [
            threading.Thread(target=sample, args=(server, ends, memory)),
            threading.Thread(target=flood, args=(server, ends)),
        ]
        fuzz = Fuzz(server, scaled(MUTATED, quick))
        threads.append(threading.Thread(target=fuzz.run))
        for thread in threads:
            thread.start()
        try:
            said = storm(server, scaled(MESSAGES, quick), 0 if quick else SECONDS)
        finally:
            fuzz.enough.set()
            ends.set()
            for thread in threads:
                thread.join()
        fuzz.finish()
        published, acknowledged = int(said["published"]), int(said["acknowledged"])
        kept = acknowledged == published >= scaled(MESSAGES, quick)
        section.hold("messages acknowledged in the storm", f"all, {scaled(MESSAGES, quick):,} at least", f"{acknowledged:,} of {published:,} in {said['seconds']:.0f} s", kept, top=False)
        section.hold("innocent subscribers: messages lost, connections ended", "0, 0", f"{said['missing']:.0f}, {said['ended']:.0f}", not said["missing"] and not said["ended"])
        section.say(f"{said['visits']:,.0f} visits of clients that came, subscribed and went; {said['refused']:.0f} were not let in.")
        section.hold("visits of clients that were not let in", "0", f"{said['refused']:.0f}", not said["refused"], top=False)
        section.hold("mutated connections, of each version; the broker's answer to a polite one after them", "it is served", f"{fuzz.sent:,}; {fuzz.after}", fuzz.after == "it is served")
        flat(section, memory, GROWTH_QUICK_MB if quick else GROWTH_MB)
        afterwards(section, server)
        silent(section, server)
        panics = server.said(PANIC)
        section.hold("panics in the log", "0", str(len(panics)), not panics and server.lives())


def prepare(server: Server) -> None:
    """Retained messages, and a session with messages that wait."""
    with Peer(server.port, V311) as away:
        away.connect("away", 0)
        away.subscribe("waits", 1)
        away.leave()
    with Peer(server.port, V311) as publisher:
        publisher.connect("prepares")
        for number in range(RETAINED):
            publisher.publish(f"kept/{number}", str(number), 1, number + 1, retain=True)
        for number in range(QUEUED):
            publisher.publish("waits", str(number), 1, number + 1)


def storm(server: Server, messages: int, seconds: int) -> dict[str, float]:
    done = subprocess.run(command(server, "storm", messages=messages, seconds=seconds, clients=200, topics=1_000), capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, f"the storm broke off: {done.stderr[-300:]}"
    return figures(done.stdout)


def sample(server: Server, ends: threading.Event, memory: list[float]) -> None:
    # Often enough for a storm of a second.
    while not ends.wait(0.02):
        memory.append(server.rss())


def flood(server: Server, ends: threading.Event) -> None:
    """Subscribes to everything that storms, takes nothing, leaves by RST and comes back."""
    while not ends.is_set():
        with Peer(server.port, V311) as stuck:
            stuck.connect("flooded")
            stuck.subscribe("storm/#", 1)
            ends.wait(2)
            stuck.cut()


class Fuzz:
    """Polite conversations with bytes changed, left out or put in. The seed is told by the section's run: 7."""

    def __init__(self, server: Server, count: int) -> None:
        self._server, self._count, self._random = server, count, random.Random(7)
        self.enough, self.sent, self.after = threading.Event(), 0, ""

    def polite(self, version: int) -> bytes:
        return b"".join(
            [
                connect(version, "fuzz", 6, rest=will(version, "w", "x")),
                subscribe(version, 1, "a/+/#", 1),
                publish(version, "a/b/c", "payload", 2, 7, retain=True, properties=prop((0x26, wire.text("k") + wire.text("v"))) if version == V5 else b""),
                ack(wire.PUBREL, 7),
                b"\xc0\0",
            ]
        )

    def mutate(self, polite: bytes) -> bytes:
        found = bytearray(polite)
        for _ in range(self._random.randint(1, 5)):
            at = self._random.randrange(len(found))
            kind = self._random.randrange(3)
            if kind == 0:
                found[at] = self._random.randrange(256)
            elif kind == 1 and at:
                del found[at:]
            else:
                found.insert(at, self._random.randrange(256))
        return bytes(found)

    def run(self) -> None:
        """Beside the storm, as many as fit."""
        while self.sent < self._count and not self.enough.is_set():
            self._one()

    def finish(self) -> None:
        """The rest, and whether a polite client is served."""
        while self.sent < self._count:
            self._one()
        with Peer(self._server.port, V311) as client:
            client.connect("polite")
            client.subscribe("polite")
            client.publish("polite", "x")
            self.after = "it is served" if client.take(1) else "nothing"

    def _one(self) -> None:
        for version in VERSIONS:
            with socket.create_connection(("127.0.0.1", self._server.port), 10) as stream:
                try:
                    stream.sendall(self.mutate(self.polite(version)))
                    if self.sent % 4 == 0:
                        # Some wait for what is said to them.
                        stream.settimeout(0.05)
                        stream.recv(4096)
                except OSError:
                    pass
        self.sent += 1


def flat(section: Section, memory: list[float], growth_mb: float) -> None:
    """The largest of the third quarter against the largest of the last."""
    third, last = memory[len(memory) // 2 : len(memory) * 3 // 4], memory[len(memory) * 3 // 4 :]
    assert third and last, "the storm was too short to see the memory"
    grown = max(last) - max(third)
    told = f"{grown:+.1f} MB (of {max(last):.1f})"
    section.hold("resident memory in the second half of the storm: grown by", f"<= {growth_mb:.0f} MB", told, grown <= growth_mb)
    section.say(f"Resident memory: {memory[0]:.1f} MB at the beginning, {max(memory):.1f} MB at most, {memory[-1]:.1f} MB at the end.")


def afterwards(section: Section, server: Server) -> None:
    """What was retained and what waits, to the message."""
    with Peer(server.port, V311) as reader:
        reader.connect("reader")
        reader.subscribe("kept/#", 1)
        got = {m.topic: m.payload.decode() for m in reader.take(RETAINED)}
        exact = got == {f"kept/{number}": str(number) for number in range(RETAINED)} and not reader.rest()
        section.hold("retained messages afterwards", f"{RETAINED:,}, exact", f"{len(got):,}{', exact' if exact else ''}", exact)
    with Peer(server.port, V311) as away:
        present = away.connect("away", 0)
        messages = [m.payload.decode() for m in away.take(QUEUED)]
        exact = present and messages == [str(number) for number in range(QUEUED)] and not away.rest()
        section.hold("messages that waited for a client that was away", f"{QUEUED:,}, exact", f"{len(messages):,}{', exact' if exact else ''}", exact)


def greeting(server: Server) -> float:
    """Milliseconds from opening a connection to its welcome, the slowest of twenty."""
    worst = 0.0
    for number in range(20):
        begin = time.monotonic()
        with Peer(server.port, V311) as client:
            client.connect(f"greets-{number}")
        worst = max(worst, (time.monotonic() - begin) * 1000)
    return worst


def silent(section: Section, server: Server) -> None:
    before = greeting(server)
    peers = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(SILENT)]
    try:
        # Half of them begin a CONNECT and never end it.
        for peer in peers[::2]:
            peer.sendall(b"\x10\x20\0\x04MQ")
        beside = greeting(server)
    finally:
        for peer in peers:
            peer.close()
    section.hold(f"{SILENT} silent peers: a greeting comes later by", f"<= {DELAY_MS} ms", f"{beside - before:.1f} ms", beside - before <= DELAY_MS)
