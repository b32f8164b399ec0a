"""The two brokers that are looked at: the gateway's own and Mosquitto, on loopback, with the same limits."""

import os
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path

from bench.process import Process, free_port
from stand.section import Skipped

# A panic of any thread says this on standard error, and the log tells that one was caught.
PANIC = "panicked at"


class Server(ABC):
    """One broker with a folder of its own. `stop` and `kill` leave the folder, so that `start` finds what it kept."""

    name: str

    def __init__(self, **settings: str | int | bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self.port = free_port()
        self.settings = settings
        # What it is started by, such as strace.
        self.prefix: list[str] = []
        self._process: Process | None = None

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Returns once it takes connections."""
        self._process = Process([*self.prefix, *self.command()], self.log)
        self._process.wait_listening(self.port)

    @abstractmethod
    def command(self) -> list[str | Path]:
        """Writes its config and says how it is started."""

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def lives(self) -> bool:
        return self._process is not None and self._process.lives()

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process:
            self._process.end(number)
            self._process = None

    def said(self, words: str) -> list[str]:
        """Lines of its log with these words."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if words in line]

    def rss(self) -> float:
        """Resident memory, in MB."""
        return self._memory("VmRSS:")

    def own_memory(self) -> float:
        """Of that, what no file is behind, in MB: not the program's own text, which the kernel may drop and read again."""
        return self._memory("RssAnon:")

    def _memory(self, name: str) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) / 1000
        raise AssertionError(f"no {name}")

    def cpu(self) -> float:
        """Seconds of processor time it took so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def kib(size: int) -> int:
    return size // 1024


class Tidegate(Server):
    """The gateway with nothing but its broker. Settings are keys of `[broker]`."""

    name = "tidegate"

    def command(self) -> list[str | Path]:
        config = self.folder / "tidegate.toml"
        keys = {"sys_interval": "0s", "max_connections": 2000} | self.settings
        lines = ["[gateway]", 'id = "box"', f'state_dir = "{self.folder / "state"}"', "[broker]", f'listen = "127.0.0.1:{self.port}"']
        lines += [f"{key} = {literal(value)}" for key, value in keys.items()]
        config.write_text("\n".join(lines) + "\n")
        return [os.environ["TIDEGATE_BINARY"], "run", "--config", config]

    @staticmethod
    def version() -> str:
        return subprocess.run([os.environ["TIDEGATE_BINARY"], "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]


def literal(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) or value.startswith(("[", "{")) else f'"{value}"'


class Mosquitto(Server):
    """Settings are lines of its config; `acl` is the text of its acl_file."""

    name = "Mosquitto"

    def command(self) -> list[str | Path]:
        config = self.folder / "mosquitto.conf"
        keys = {"allow_anonymous": "true", "persistence": "false", "sys_interval": 0} | self.settings
        if acl := keys.pop("acl", None):
            keys["acl_file"] = self.folder / "acl"
            keys["acl_file"].write_text(acl)
        lines = ["user root"] if os.geteuid() == 0 else []
        lines += [f"{key} {value}" for key, value in keys.items()]
        lines += [f"persistence_location {self.folder}/", f"listener {self.port} 127.0.0.1"]
        config.write_text("\n".join(lines) + "\n")
        return [self._program(), "-c", config]

    @staticmethod
    def _program() -> str:
        found = shutil.which("mosquitto")
        if not found:
            raise Skipped("there is no Mosquitto")
        return found

    @staticmethod
    def version() -> str:
        told = subprocess.run([Mosquitto._program(), "-h"], capture_output=True, text=True, check=False).stdout
        return told.split()[2]
