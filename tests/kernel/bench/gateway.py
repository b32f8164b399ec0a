"""The gateway under test, in the guest."""

import re

from bench.mqtt import Client
from bench.process import Process
from bench.unit import Unit
from bench.waiting import PATIENCE, Missed, check, wait_until

# The broker is reached from the host by the machine's network, so it must listen beyond the guest's loopback.
HEAD = """
[gateway]
id = "box"
state_dir = "STATE"

[broker]
listen = "0.0.0.0:1883"
anonymous = "beyond-loopback"
"""


class Gateway:
    def __init__(self, machine):
        self._machine = machine
        self._process = Unit(machine) if machine.kind.systemd else Process(machine)
        self._head = HEAD.replace("STATE", machine.state)
        self._mark = 0
        self.client = None

    def start(self, config, environment=""):
        """Starts it with this config (the head is added), waits until it is up, and listens in at its broker with `client`."""
        self._machine.write("tidegate.toml", self._head + config)
        self._mark = self._machine.output.mark()
        self._process.start(environment)
        self.wait_log("gateway is up")
        self.client = wait_until("the local broker", self._connect)

    def _connect(self):
        try:
            return Client(self._machine.mqtt_port)
        except (OSError, EOFError):
            return None

    # ---- its log ----

    def mark(self):
        return self._machine.output.mark()

    def log(self, mark=None):
        """The lines since the mark; without one, since it was started."""
        return self._machine.output.since(self._mark if mark is None else mark)

    def wait_log(self, pattern, mark=None, timeout=PATIENCE):
        """The first line since the mark, or since its start, that matches. Its end is no reason to wait on."""
        mark = self._mark if mark is None else mark
        wanted = re.compile(pattern)

        def line():
            lines = self.log(mark)
            found = next((line for line in lines if wanted.search(line)), None)
            if not found and not self.lives():
                raise Missed(f"the gateway ended before a line like {pattern!r}:\n  " + "\n  ".join(lines))
            return found

        try:
            return wait_until(f"a line of the log like {pattern!r}", line, timeout)
        except Missed as missed:
            raise Missed(f"{missed}\n  " + "\n  ".join(self.log()[-30:])) from None

    def exactly_one(self, *patterns, since=None):
        """The one line since the mark that matches all patterns. The log comes by another way than a message, and may be later."""
        in_any_order = "".join(f"(?=.*{pattern})" for pattern in patterns)
        found = self.wait_log(in_any_order, since)
        same = [line for line in self.log(since) if re.search(in_any_order, line)]
        check(len(same) == 1, f"not one line but {len(same)} with {patterns} in\n  " + "\n  ".join(self.log(since)))
        return found

    # ---- its life ----

    def lives(self):
        return self._process.lives()

    def signal(self, name):
        self._process.signal(name)

    def reload(self, config):
        self._machine.write("tidegate.toml", self._head + config)
        self._process.configure()
        mark = self.mark()
        self.signal("HUP")
        self.wait_log("config reloaded", mark)

    def stop(self, signal="TERM"):
        """Ends it and returns its exit code."""
        if not self._process.started():
            return None
        if self.client:
            self.client.close()
            self.client = None
        self._process.signal(signal)
        wait_until("the gateway to end", self._process.ended)
        return self._process.reap()

    def kill(self):
        return self.stop("KILL")

    def forget(self):
        """The machine lost its power, and the gateway with it."""
        if self.client:
            self.client.close()
        self.client = None
        self._process.forget()

    # ---- what it says ----

    def run(self, arguments, timeout=PATIENCE):
        """Another command of the program: its exit code, and what it prints."""
        return self._machine.ask("run", f"tidegate {arguments}", timeout)

    def reading(self, sensor, pattern="", mark=0, timeout=PATIENCE):
        """The next reading of a sensor whose text matches."""
        return self.client.wait(f"tidegate/box/{sensor}", pattern, mark, timeout).json()

    def availability(self, sensor, expected, mark=0, timeout=PATIENCE):
        self.client.wait(f"tidegate/box/{sensor}/availability", f"^{expected}$", mark, timeout)
