"""Mosquitto's own clients with both brokers, and starts that must fail."""

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from bench.process import Process
from bench.waiting import Missed, wait_until
from stand.section import Section, Skipped
from stand.servers import PANIC, Mosquitto, Server, Tidegate

TITLE = "Mosquitto's clients, and starts that must fail"
HOW = """
mosquitto_pub and mosquitto_sub as Debian packages them, in 3.1.1 and in 5 where nothing else is said. Sessions are asked for with `-c` and a client id; queues may hold
20,000 messages in both brokers.
"""

QUEUED = 10_000
LARGE = 8 << 20
CLIENTS = 200
VERSIONS = ["mqttv311", "mqttv5"]
# A session of MQTT 5 that outlives its connection.
KEPT = {"mqttv311": [], "mqttv5": ["-x", "3600"]}
START_LIMIT = 2.0


class Sub:
    """mosquitto_sub, line by line. It tells when it has its SUBACK; its messages are lines of `MSG topic payload`."""

    def __init__(self, server: Server, *words: str | Path, name: str = "sub") -> None:
        self._log = server.folder / f"{name}-{time.monotonic_ns()}"
        self.process = Process(["stdbuf", "-oL", "mosquitto_sub", "-p", str(server.port), "-d", "-F", "MSG %t %p", *words], self._log)

    def text(self) -> str:
        return self._log.read_text(errors="replace")

    def ready(self) -> "Sub":
        wait_until("mosquitto_sub to have its SUBACK", lambda: "Subscribed (mid" in self.text(), 20)
        return self

    def messages(self) -> list[str]:
        return re.findall(r"^MSG (.*)$", self.text(), re.M)

    def ended(self, timeout: float = 60) -> list[str]:
        """Its messages once it has ended by itself."""
        try:
            wait_until("mosquitto_sub to end", lambda: not self.process.lives(), timeout)
        finally:
            self.process.kill()
        return self.messages()


def pub(server: Server, *words: str | Path, lines: list[str] | None = None) -> None:
    subprocess.run(
        ["mosquitto_pub", "-p", str(server.port), *map(str, words), *(["-l"] if lines else [])],
        input="".join(line + "\n" for line in lines) if lines else None,
        text=True,
        check=True,
        timeout=120,
        capture_output=True,
    )


def exact(got: list[str], sent: list[str]) -> str:
    return f"{len(got):,} of {len(sent):,}" + ("" if got == sent else ", in order" if got == sorted(got, key=sent.index) else ", **not in order**")


def by_qos(server: Server, version: str, qos: str) -> str:
    lines = [str(number) for number in range(500)]
    sub = Sub(server, "-V", version, "-t", "q", "-q", qos, "-C", str(len(lines))).ready()
    pub(server, "-V", version, "-t", "q", "-q", qos, lines=lines)
    return exact(sub.ended(), [f"q {line}" for line in lines])


def retain(server: Server, version: str) -> str:
    pub(server, "-V", version, "-t", "r/one", "-m", "kept", "-q", "1", "-r")
    first = Sub(server, "-V", version, "-t", "r/#", "-C", "1", "-W", "10").ended()
    pub(server, "-V", version, "-t", "r/one", "-n", "-q", "1", "-r")
    pub(server, "-V", version, "-t", "r/two", "-m", "other", "-q", "1", "-r")
    second = Sub(server, "-V", version, "-t", "r/#", "-C", "1", "-W", "10").ended()
    pub(server, "-V", version, "-t", "r/two", "-n", "-q", "1", "-r")
    return "kept, cleared" if (first, second) == (["r/one kept"], ["r/two other"]) else f"{first}, {second}"


def will(server: Server, version: str) -> str:
    watcher = Sub(server, "-V", version, "-t", "w", "-q", "1", "-C", "1", "-W", "20").ready()
    words = ["--will-topic", "w", "--will-payload", "gone", "--will-qos", "1"]
    mortal = Sub(server, "-V", version, "-t", "x", *words).ready()
    mortal.process.kill()
    return "told" if watcher.ended() == ["w gone"] else "**not told**"


def session(server: Server, version: str, between: Callable[[], None] = lambda: None, name: str = "keeps") -> str:
    # A session of its own: the last of another one may be unacknowledged when mosquitto_sub has counted it and goes.
    who = ["-V", version, "-i", f"{name}-{version}", "-c", *KEPT[version], "-t", "p", "-q", "1"]
    lines = [str(number) for number in range(QUEUED)]
    first = Sub(server, *who, "-E")
    first.ended()
    pub(server, "-V", version, "-t", "p", "-q", "1", lines=lines)
    between()
    try:
        # Who finds its session has no need of the subscription, and gets what waits before it is answered.
        got = Sub(server, *who, "-C", str(QUEUED), "-W", "10").ended(90)
    except Missed:
        return "**no end**"
    return exact(got, [f"p {line}" for line in lines])


def large(server: Server, version: str) -> str:
    path = server.folder / "large"
    path.write_bytes(os.urandom(LARGE))
    out = server.folder / "large-got"
    words = ["mosquitto_sub", "-p", str(server.port), "-V", version, "-t", f"l/{version}/#", "-q", "1", "-N", "-C", "2", "-W", "60"]
    with out.open("wb") as sink:
        sub = subprocess.Popen(words, stdout=sink)
    try:
        # A retained one says that it is there.
        pub(server, "-V", version, "-t", f"l/{version}/first", "-m", "1", "-r", "-q", "1")
        wait_until("the subscriber", lambda: out.stat().st_size > 0 or sub.poll() is not None, 20)
        pub(server, "-V", version, "-t", f"l/{version}/second", "-f", path, "-q", "1")
        sub.wait(90)
    finally:
        sub.kill()
    same = hashlib.sha256(out.read_bytes()[1:]).digest() == hashlib.sha256(path.read_bytes()).digest()
    return "arrives whole" if same else f"**{out.stat().st_size - 1:,} bytes arrive**"


def crowd(server: Server, version: str) -> str:
    subs = [Sub(server, "-V", version, "-t", "c", "-q", "1", "-C", "1", "-W", "60", name=f"crowd-{n}") for n in range(CLIENTS)]
    for sub in subs:
        sub.ready()
    pub(server, "-V", version, "-t", "c", "-m", "all", "-q", "1")
    return f"{sum(sub.ended() == ['c all'] for sub in subs)} of {CLIENTS}"


def refused(command: list[str | Path], log: Path) -> tuple[float, int | None]:
    """How long it takes to give up and with which code; None when it does not."""
    begin = time.monotonic()
    with log.open("ab") as out:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=out)
    try:
        code = process.wait(10)
    except subprocess.TimeoutExpired:
        code = None
        process.kill()
        process.wait()
    return time.monotonic() - begin, code


def port_taken(kind: type[Server]) -> tuple[float, int | None]:
    with kind() as first:
        second = kind()
        second.port = first.port
        try:
            return refused(second.command(), second.log)
        finally:
            shutil.rmtree(second.folder, ignore_errors=True)


def no_certificate(kind: type[Server]) -> tuple[float, int | None]:
    server = kind()
    try:
        command = server.command()
        config, missing = Path(command[-1]), server.folder / "missing.pem"
        if kind is Tidegate:
            more = f'[broker.tls]\nlisten = "127.0.0.1:0"\ncert = "{missing}"\nkey = "file:{missing}"\n'
        else:
            more = f"certfile {missing}\nkeyfile {missing}\n"
        config.write_text(config.read_text() + more)
        return refused(command, server.log)
    finally:
        shutil.rmtree(server.folder, ignore_errors=True)


LOOKS: list[tuple[str, str, Callable[[Server, str], str]]] = [
    *((f"500 lines at QoS {qos}", "500 of 500", lambda server, version, qos=qos: by_qos(server, version, str(qos))) for qos in range(3)),
    ("retained, then cleared", "kept, cleared", retain),
    ("will after `kill -9`", "told", will),
    (f"session away while {QUEUED:,} come at QoS 1", f"{QUEUED:,} of {QUEUED:,}", session),
    ("a payload of 8 MiB", "arrives whole", large),
    (f"{CLIENTS} clients, one message to all", f"{CLIENTS} of {CLIENTS}", crowd),
]


def looked(server: Server, look: Callable[[Server, str], str], version: str) -> str:
    try:
        return look(server, version)
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        return f"**{type(error).__name__}**: {str(error)[:80]}"


def run(section: Section, quick: bool) -> None:
    for tool in ("mosquitto_pub", "mosquitto_sub"):
        if not shutil.which(tool):
            raise Skipped(f"there is no {tool}")
    rows, wrong = [], 0
    durable = {"persistence": "true", "autosave_interval": 1, "max_queued_messages": 20_000}
    with Tidegate(max_queued=20_000, max_packet="16MiB") as ours, Mosquitto(**durable) as theirs:
        for name, expected, look in LOOKS:
            cells = []
            for server in (ours, theirs):
                told = {version: looked(server, look, version) for version in VERSIONS}
                cells.append(told["mqttv5"] if len(set(told.values())) == 1 else f"3.1.1: {told['mqttv311']}; 5: {told['mqttv5']}")
            wrong += cells[0] != expected
            rows.append([name, *cells])
        over = over_a_kill(ours, theirs)
        rows.append(over)
        panics = ours.said(PANIC)
    section.table(["", "tidegate", "Mosquitto"], rows)
    section.hold("Mosquitto's clients: QoS 0 to 2, retain, will, session, 8 MiB, 200 of them: what went wrong", "0", str(wrong), wrong == 0)
    section.hold(f"a session with {QUEUED:,} waiting, over `kill -9` of the broker", f"{QUEUED:,} of {QUEUED:,}", over[1], over[1] == f"{QUEUED:,} of {QUEUED:,}")
    section.hold("panics in the log", "0", str(len(panics)), not panics, top=False)
    for name, start in (("port is taken", port_taken), ("certificate cannot be read", no_certificate)):
        seconds, code = start(Tidegate)
        other, their_code = start(Mosquitto)
        kept = code not in (0, None) and seconds <= START_LIMIT
        section.hold(f"a start whose {name}: fails within, exit code", "2 s, not 0", f"{seconds:.1f} s, {code}", kept, top=False)
        section.say(f"Mosquitto, whose {name}: {other:.1f} s, exit code {their_code}.")


def over_a_kill(ours: Server, theirs: Server) -> list[str]:
    """The same session, with the broker killed and started anew between the last acknowledgement and the subscriber's return."""

    def again(server: Server) -> str:
        def blow() -> None:
            server.kill()
            server.start()

        return looked(server, lambda server, version: session(server, version, blow, "killed"), "mqttv311")

    return ["the same, and `kill -9` of the broker while they wait", again(ours), again(theirs)]
