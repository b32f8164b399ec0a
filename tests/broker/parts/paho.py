"""The interoperability suites of Eclipse Paho, as they are, against both brokers."""

import concurrent.futures
import os
import re
import subprocess
import sys
from pathlib import Path

from stand.section import Section, Skipped
from stand.servers import Mosquitto, Server, Tidegate

TITLE = "Paho's interoperability suites"
HOW = """
`client_test.py` (MQTT 3.1.1) and `client_test5.py` (5.0) of Eclipse's paho.mqtt.testing, not changed in a byte. Each test runs alone, against a broker
of its own that is as it comes, but for two things: `max_keep_alive = "60s"` here in 5.0; and in `test_subscribe_failure`, which wants a subscription to `test/nosubscribe` refused,
clients without a name may do everything but that, here by `deny_subscribe` in `[broker.anyone]`, in Mosquitto by `topic deny` in an `acl_file` (which 2.0.11 looks at for messages, not for
subscriptions). In 5.0 the suite can read no refusal but 0x80, "unspecified error"; ours is 0x87, "not authorized", which is what the specification has for it, so the test fails there. One that takes more than 90 s has failed.
Some publish before another connection of theirs has its SUBACK, so that they pass or not as the machine has it: one that fails is run twice more, with either broker.
"""

# The suite, how many of its tests must pass, and what the config here says for it: one of them wants a client that asks for a keep alive of
# 120 s to be given 60 s.
SUITES = {"client_test.py": (10, {}), "client_test5.py": (26, {"max_keep_alive": "60s"})}
# What both brokers are told for a test that wants a topic which nobody may subscribe to.
DENYING = {
    "test_subscribe_failure": {
        Tidegate: {"anyone": '{ publish = ["#"], subscribe = ["#"], deny_subscribe = ["test/nosubscribe"] }'},
        Mosquitto: {"acl": "topic readwrite #\ntopic deny test/nosubscribe\n"},
    }
}
LIMIT = 90
# Run at one time: they wait most of theirs.
TOGETHER = 8
TRIES = 3
# Places where a package might have put it.
PLACES = ["/usr/share/paho.mqtt.testing", "/usr/local/share/paho.mqtt.testing"]

# Runs one test of a suite as the suite's own main program: it sets its globals there. It hands its arguments on to unittest, which does not know them.
RUNNER = """
import runpy, sys, unittest
main, test = unittest.main, sys.argv.pop(1)
unittest.main = lambda: main(argv=[sys.argv[0], "Test." + test])
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def checkout() -> tuple[Path, str]:
    """The folder of the suites, and which commit it is of."""
    for place in [os.environ.get("PAHO_TESTING", ""), *PLACES]:
        folder = Path(place) / "interoperability"
        if place and (folder / "client_test5.py").exists():
            commit = subprocess.run(["git", "-C", place, "log", "-1", "--format=%h of %cs"], capture_output=True, text=True, check=False)
            # An unpacked archive has no commit of its own, and what is around it may have one.
            own = (Path(place) / ".git").exists()
            return folder, commit.stdout.strip() if own else "not told"
    raise Skipped("PAHO_TESTING names no checkout of paho.mqtt.testing")


def passes(folder: Path, suite: str, case: str, server: Server) -> bool:
    command = [sys.executable, "-W", "ignore", "-c", RUNNER, case, suite, "-p", str(server.port)]
    with server:
        try:
            done = subprocess.run(
                command, cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, capture_output=True, timeout=LIMIT, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        finally:
            assert server.lives(), f"{server.name} did not survive {case} of {suite}"
        return done.returncode == 0


def passes_once(folder: Path, suite: str, case: str, kind: type[Server]) -> bool:
    settings = (SUITES[suite][1] if kind is Tidegate else {}) | DENYING.get(case, {}).get(kind, {})
    return any(passes(folder, suite, case, kind(**settings)) for _ in range(TRIES))


def run(section: Section, quick: bool) -> None:
    folder, commit = checkout()
    suites = list(SUITES)[:1] if quick else list(SUITES)
    cases = [(suite, case) for suite in suites for case in re.findall(r"^    def (test\w+)", (folder / suite).read_text(), re.M)]
    runs = [(*case, kind) for case in cases for kind in (Tidegate, Mosquitto)]
    with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
        outcomes = dict(zip(runs, pool.map(lambda each: passes_once(folder, *each), runs)))
    rows = []
    for suite in suites:
        own = [case for of, case in cases if of == suite]
        passed = {kind: [case for case in own if outcomes[suite, case, kind]] for kind in (Tidegate, Mosquitto)}
        told = [f"{len(passed[kind])} of {len(own)}" for kind in (Tidegate, Mosquitto)]
        least = SUITES[suite][0]
        section.hold(f"Paho's {suite}, tests that pass", f">= {least} of {len(own)}", told[0], len(passed[Tidegate]) >= least)
        rows.append([f"`{suite}`", *told])
        for case in own:
            verdicts = ["passes" if outcomes[suite, case, kind] else "fails" for kind in (Tidegate, Mosquitto)]
            if "fails" in verdicts:
                rows.append([f"`{case}`", *verdicts])
    section.table(["", f"tidegate {Tidegate.version()}", f"Mosquitto {Mosquitto.version()}"], rows)
    section.say(f"The suites are of commit {commit}.")
