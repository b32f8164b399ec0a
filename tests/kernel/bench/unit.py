"""How the gateway is started and ended in a machine with systemd: as the service of its package, with all that its unit forbids."""

from bench.waiting import PATIENCE

CONFIG = "/etc/tidegate/tidegate.toml"
DROP_INS = "/run/systemd/system/tidegate.service.d"
# What the bench needs and the unit has otherwise: the log where the host reads it; one that is killed stays so until it is started; and a port of a kind
# that no board has, allowed as the page about operating says.
BENCH = "[Service]\nStandardOutput=file:/run/bench.log\nStandardError=inherit\nRestart=no\nDeviceAllow=char-ttyBench rw\n"
KILLED = "2"


def install(machine):
    """The package, as a person installs it."""
    machine.shell("mkdir -p /etc/systemd/system && dpkg --install /share/tidegate.deb", timeout=10 * PATIENCE)
    write(machine, f"{DROP_INS}/50-bench.conf", BENCH)


def write(machine, path, text):
    machine.shell(f"mkdir -p $(dirname {path}) && printf '%s' '{text}' >{path} && systemctl daemon-reload", timeout=3 * PATIENCE)


class Unit:
    def __init__(self, machine):
        self._machine = machine
        self._started = False

    def configure(self):
        """Puts the config where the unit looks for it."""
        self._machine.shell(f"install -m 640 -g tidegate /share/tidegate.toml {CONFIG}")

    def start(self, environment=""):
        """Returns once it has said that it is ready."""
        self.configure()
        if environment:
            write(self._machine, f"{DROP_INS}/60-environment.conf", f"[Service]\nEnvironment={environment}\n")
        self._started = True
        self._machine.shell("systemctl start tidegate", timeout=3 * PATIENCE)

    def started(self):
        return self._started

    def _show(self, name):
        return self._machine.shell(f"systemctl show --property={name} --value tidegate").strip()

    def lives(self):
        return self._started and not self.ended()

    def ended(self):
        return self._show("ActiveState") in ("inactive", "failed")

    def signal(self, name):
        if name == "TERM":
            self._machine.shell("systemctl stop --no-block tidegate")
        else:
            self._machine.ask("run", f"systemctl kill --kill-who=main --signal={name} tidegate")

    def reap(self):
        """The exit code of one that has ended, as a shell tells it."""
        code = int(self._show("ExecMainStatus"))
        if self._show("ExecMainCode") == KILLED:
            code += 128
        self._machine.ask("run", "systemctl reset-failed tidegate")
        self._started = False
        return code

    def forget(self):
        self._started = False
