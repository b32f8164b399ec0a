"""How fast, how late, how large: both brokers by turns, with the same load."""

import os
import shutil
import statistics
import subprocess
import time

from stand.load import command, load, scaled
from stand.section import Section
from stand.servers import PANIC, Mosquitto, Server, Tidegate

TITLE = "Throughput, latency, memory"
HOW = """
The load is a program of its own (`tests/broker/load`, 3.1.1), which lets no more than 200 messages of 100 B be under way between a publisher and its subscribers, so that nobody
drops any. Both brokers take turns, three runs each; told are medians. Queues may hold 20,000 messages, and
256 may be in flight, in both; Mosquitto is otherwise as it comes. Memory is what is resident, then of it what no file is behind: the rest is the program
and its libraries, which the kernel can drop and read again.
"""

RUNS = 3
# Name, and the words of the load.
LOADS = {
    "QoS 0, 1 to 1": dict(qos=0, messages=200_000),
    "QoS 1, 1 to 1": dict(qos=1, messages=100_000),
    "QoS 2, 1 to 1": dict(qos=2, messages=50_000),
    "QoS 0, 10 pairs": dict(qos=0, messages=200_000, pairs=10),
    "QoS 1, 10 pairs": dict(qos=1, messages=100_000, pairs=10),
    "QoS 2, 10 pairs": dict(qos=2, messages=50_000, pairs=10),
    "QoS 1, 1 to 10": dict(qos=1, messages=20_000, fan=10),
}
LATE = {f"QoS {qos}": dict(qos=qos, messages=10_000, rate=1_000) for qos in range(3)}
IDLE_CLIENTS = 200
IDLE_SECONDS = 20
OURS = {"max_queued": 20_000, "max_inflight": 256}
THEIRS = {"max_queued_messages": 20_000, "max_inflight_messages": 256}


def pair(ours: dict, theirs: dict) -> tuple[Server, Server]:
    return Tidegate(**OURS, **ours), Mosquitto(**THEIRS, **theirs)


class Turns:
    """The figures of both, run by run."""

    def __init__(self) -> None:
        self.ours: list[dict[str, float]] = []
        self.theirs: list[dict[str, float]] = []

    def median(self, name: str) -> tuple[float, float]:
        return tuple(statistics.median(run[name] for run in runs) for runs in (self.ours, self.theirs))

    def lost(self) -> int:
        return int(sum(run["lost"] for run in self.ours))


def turns(servers: tuple[Server, Server], mode: str, words: dict[str, int], quick: bool) -> Turns:
    found = Turns()
    words = words | {"messages": scaled(words["messages"], quick)}
    for _ in range(1 if quick else RUNS):
        for server, runs in zip(servers, (found.ours, found.theirs)):
            runs.append(load(server, mode, **words))
    return found


def memory(server: Server) -> str:
    return f"{server.rss():.1f} / {server.own_memory():.1f}"


def idle(server: Server) -> tuple[str, float]:
    """Memory with many clients that say nothing, and the share of a core that they cost."""
    process = subprocess.Popen(command(server, "idle", clients=IDLE_CLIENTS), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert "ready" in process.stdout.readline(), "the clients did not come in"
        before, begin = server.cpu(), time.monotonic()
        time.sleep(IDLE_SECONDS)  # what is to pass is time
        return memory(server), (server.cpu() - before) / (time.monotonic() - begin) * 100
    finally:
        process.stdin.close()
        process.wait(10)


def run(section: Section, quick: bool) -> None:
    begin = os.getloadavg()[0]
    servers = pair({}, {})
    with servers[0] as ours, servers[1] as theirs:
        fresh = (memory(ours), memory(theirs))
        with_clients = (idle(ours), idle(theirs))
        throughput(section, servers, LOADS, quick, "in memory", top=True)
        latency(section, servers, quick)
        after = (memory(ours), memory(theirs))
        panics = ours.said(PANIC)
    section.table(
        ["", "tidegate", "Mosquitto"],
        [
            ["memory after the start, MB", *fresh],
            [f"memory with {IDLE_CLIENTS} clients that say nothing, MB", *(told for told, _ in with_clients)],
            [f"processor with {IDLE_CLIENTS} clients that say nothing, % of a core", *(f"{cpu:.2f}" for _, cpu in with_clients)],
            ["memory after all of this load, MB", *after],
        ],
    )
    section.hold("panics under load", "0", str(len(panics)), not panics, top=False)
    durable(section, quick)
    section.say(f"The machine's load average was {begin:.1f} before and {os.getloadavg()[0]:.1f} after; on {os.cpu_count()} cores, more than 1 before is not a quiet machine.")


def throughput(section: Section, servers: tuple[Server, Server], loads: dict[str, dict], quick: bool, how: str, *, top: bool) -> None:
    rows = []
    for name, words in loads.items():
        found = turns(servers, "throughput", words, quick)
        ours, theirs = found.median("rate")
        lost = found.lost()
        told = f"{ours:,.0f}/s against {theirs:,.0f}/s: {ours / theirs:.2f}"
        rows.append([name, f"{ours:,.0f}", f"{theirs:,.0f}", f"{ours / theirs:.2f}", str(lost)])
        if top:
            section.hold(f"messages a second {how}, {name}, beside Mosquitto", ">= 1.0, lost 0", f"{told}, lost {lost}", ours >= theirs and not lost, top=name.endswith("1 to 1"))
        elif lost:
            section.hold(f"lost, {how}, {name}", "0", str(lost), False)
    section.say(f"\nMessages a second, {how}:")
    section.table(["", "tidegate", "Mosquitto", "ratio", "lost here"], rows)


def latency(section: Section, servers: tuple[Server, Server], quick: bool) -> None:
    rows = []
    for name, words in LATE.items():
        found = turns(servers, "latency", words, quick)
        (p50, their_p50), (p99, their_p99) = found.median("p50"), found.median("p99")
        rows.append([name, f"{p50:.0f} / {p99:.0f}", f"{their_p50:.0f} / {their_p99:.0f}"])
        # A tenth of a millisecond is what the scheduler makes of it.
        kept = p99 <= max(their_p99, their_p99 + 100) and not found.lost()
        section.hold(f"p99 at 1,000 messages a second, {name}", f"<= Mosquitto's {their_p99:.0f} µs + 100 µs", f"{p99:.0f} µs", kept, top=False)
    section.say("\nFrom publisher to subscriber at 1,000 messages a second, median / 99th percentile, µs:")
    section.table(["", "tidegate", "Mosquitto"], rows)


def durable(section: Section, quick: bool) -> None:
    """Persistent subscribers, whose messages must be on disk before they are acknowledged; Mosquitto writes down when it will."""
    loads = {
        f"QoS {qos}, {name}": dict(qos=qos, messages=messages, keep=1) | words
        for qos, messages in ((1, 20_000), (2, 10_000))
        for name, words in (("1 to 1", {}), ("10 pairs", dict(pairs=10)))
    }
    for how, settings in (
        ("each second", {"persistence": "true", "autosave_interval": 1}),
        ("at each change", {"persistence": "true", "autosave_on_changes": "true", "autosave_interval": 1}),
    ):
        # At each change it writes its whole database for each message.
        share = 1 if how == "each second" else 0.05
        few = {name: words | {"messages": max(int(words["messages"] * share), 500)} for name, words in loads.items()}
        servers = pair({}, settings)
        with servers[0], servers[1]:
            throughput(section, servers, few, quick, f"persistent subscribers, Mosquitto saves {how}", top=False)
    section.say(commits())


def commits() -> str:
    """How often the store is flushed for one message of QoS 1 after the other, and for many. Another run, as to count costs time."""
    if not shutil.which("strace"):
        return "How often the store is flushed was not counted: there is no strace."
    told = []
    for name, words in (("1 to 1", dict(messages=5_000)), ("10 pairs", dict(messages=5_000, pairs=10))):
        server = Tidegate(**OURS)
        calls = server.folder / "calls"
        server.prefix = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=fdatasync,fsync", "-o", str(calls)]
        with server:
            before = len(calls.read_text().splitlines())
            found = load(server, "throughput", qos=1, keep=1, **words)
            count = len(calls.read_text().splitlines()) - before
        told.append(f"{name}: {count / found['seconds']:,.0f} flushes a second at {found['rate']:,.0f} messages a second")
    return "Persistent subscribers at QoS 1, watched by strace, which slows it: " + "; ".join(told) + "."
