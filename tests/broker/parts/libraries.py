"""Client libraries as they are packaged, with both brokers."""

import os
import subprocess
import sys
from pathlib import Path

from stand.peer import V311, Peer
from stand.section import Section
from stand.servers import Mosquitto, Server, Tidegate

TITLE = "Client libraries as they are packaged"
HOW = """
Each library connects, subscribes and publishes at QoS 0, 1 and 2, has a message retained, is killed with `kill -9` while its will is with the broker, and comes back to a session that a
message waits in; in 3.1.1 and in 5 (`tests/broker/libraries/`).
"""

HERE = Path(__file__).parent.parent / "libraries"
EXPECTED = {"connect": "yes", "qos0": "at 0", "qos1": "at 1", "qos2": "at 2", "retain": "kept", "will": "told", "session": "present, waited"}


def commands(packages: Path) -> dict[str, tuple[list[str], dict[str, str]]]:
    """How each is run, and what its environment needs."""
    python = str(packages / "venv/bin/python")
    debian = {"PYTHONPATH": str(packages / "root/usr/lib/python3/dist-packages")}
    return {
        "paho-mqtt (PyPI)": ([python, str(HERE / "paho_client.py")], {}),
        "aiomqtt (PyPI)": ([python, str(HERE / "aiomqtt_client.py")], {}),
        "gmqtt (PyPI)": ([python, str(HERE / "gmqtt_client.py")], {}),
        "MQTT.js (npm)": (["node", str(HERE / "mqttjs_client.mjs")], {"MQTT_PACKAGES": str(packages)}),
        "python3-paho-mqtt (Debian)": ([sys.executable, str(HERE / "paho_client.py")], debian),
        "Paho C (Debian)": ([str(packages / "paho-c")], {}),
        "Paho C++ (Debian)": ([str(packages / "paho-cpp")], {}),
    }


class Library:
    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self._command, self._env = command, {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | env

    def run(self, port: int, version: str, mode: str) -> str:
        """What it printed; it must end well."""
        done = subprocess.run([*self._command, str(port), version, mode], env=self._env, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
            raise RuntimeError(last[:90])
        return done.stdout.strip()

    def start(self, port: int, version: str, mode: str) -> subprocess.Popen:
        return subprocess.Popen([*self._command, str(port), version, mode], env=self._env, stdout=subprocess.PIPE, text=True)


def look(library: Library, server: Server, version: str) -> dict[str, str]:
    cells = {}
    steps = {"talk": talk, "will": will, "session": session}
    for name, step in steps.items():
        try:
            cells |= step(library, server, version)
        except (AssertionError, OSError, RuntimeError, subprocess.SubprocessError) as error:
            cells[name] = f"**{error}**"
    return cells


def talk(library: Library, server: Server, version: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in library.run(server.port, version, "talk").splitlines() if "=" in line)


def will(library: Library, server: Server, version: str) -> dict[str, str]:
    with Peer(server.port, V311) as watcher:
        watcher.connect("watches-wills")
        watcher.subscribe("lib/will", 1)
        process = library.start(server.port, version, "mortal")
        try:
            assert process.stdout.readline().strip() == "ready", "it did not connect"
        finally:
            process.kill()
            process.wait()
        return {"will": "told" if [m.payload for m in watcher.take(1)] == [b"gone"] else "not told"}


def session(library: Library, server: Server, version: str) -> dict[str, str]:
    library.run(server.port, version, "keep")
    with Peer(server.port, V311) as publisher:
        publisher.connect("feeds-sessions")
        publisher.publish("lib/waits", "waited", 1)
    return dict([library.run(server.port, version, "back").split("=", 1)])


def told(cells: dict[str, str]) -> str:
    wrong = [f"{name}: {cells.get(name, 'nothing')}" for name, words in EXPECTED.items() if cells.get(name) != words]
    wrong += [f"{name}: {words}" for name, words in cells.items() if name not in EXPECTED]
    return "; ".join(wrong) or "all"


def run(section: Section, quick: bool) -> None:
    packages = Path(subprocess.run([HERE / "prepare"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip())
    rows, wrong, met = [], 0, 0
    for name, (command, env) in commands(packages).items():
        library = Library(command, env)
        try:
            version = library.run(0, "5", "version")
        except (OSError, RuntimeError) as why:
            section.skip(name, str(why))
            continue
        met += 1
        row = [f"{name} {version}"]
        for kind in (Tidegate, Mosquitto):
            for spoken in ("3.1.1", "5"):
                with kind() as server:
                    row.append(told(look(library, server, spoken)))
                    wrong += kind is Tidegate and row[-1] != "all"
        rows.append(row)
    if not met:
        return
    section.table(["", "tidegate, 3.1.1", "tidegate, 5", "Mosquitto, 3.1.1", "Mosquitto, 5"], rows)
    section.hold(f"{met} client libraries, in 3.1.1 and in 5: what went otherwise than it should", f"0 of {2 * met}", str(wrong), wrong == 0)
