"""How the gateway is started and ended in a machine: a child of the agent's. In a machine with systemd it is a service (bench/unit.py)."""


class Process:
    def __init__(self, machine):
        self._machine = machine
        self._id = None

    def configure(self):
        """It reads its config where it was written."""

    def start(self, environment=""):
        """Starts it with the config at /share/tidegate.toml, and with these variables set (`NAME=VALUE ...`)."""
        self._id = self._machine.start(f"env {environment} tidegate run --config /share/tidegate.toml")

    def started(self):
        """Whether there is one to be ended, alive or not."""
        return self._id is not None

    def lives(self):
        """Also when it has ended and was not reaped: what it said last may still be on its way."""
        return self._id is not None and self._machine.ask("run", f"kill -0 {self._id}")[0] == 0

    def ended(self):
        return not self.lives() or ") Z " in self._machine.ask("run", f"cat /proc/{self._id}/stat")[1]

    def signal(self, name):
        self._machine.ask("run", f"kill -{name} {self._id}")

    def reap(self):
        """The exit code of one that has ended."""
        code = self._machine.ask("reap", str(self._id))[0]
        self._id = None
        return code

    def forget(self):
        """It is gone with the power."""
        self._id = None
