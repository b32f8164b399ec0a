"""A process of ours with its log, ended by its id and by nothing else."""

import os
import random
import signal
import socket
import subprocess
from pathlib import Path

from bench.waiting import Missed, wait_until


def free_port() -> int:
    """A port of loopback that nobody has, below those that the kernel gives to outgoing connections: none of them takes it before its listener does."""
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free port between 20000 and 32000")


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Process:
    """Its output goes to a file. In a group of its own, so that what it starts ends with it."""

    def __init__(self, command: list[str | Path], log: Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        self.log = log
        self._name = Path(str(command[0])).name
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=os.environ | (env or {}),
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def lives(self) -> bool:
        return self._process.poll() is None

    def end(self, number: signal.Signals = signal.SIGTERM, patience: float = 30.0) -> None:
        """Sends the signal and waits; what does not go is killed."""
        if self.lives():
            os.kill(self._process.pid, number)
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait(10)

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def wait_listening(self, *ports: int) -> None:
        for port in ports:
            wait_until(f"{self._name} to listen at {port}", lambda: not self.lives() or listens(port), pause=0.05)
        if not self.lives():
            raise Missed(f"{self._name} ended; its log ends\n{self.tail()}")

    def tail(self, lines: int = 15) -> str:
        return "\n".join("  " + line for line in self.log.read_text(errors="replace").splitlines()[-lines:])
