"""What the bench wants of a broker."""

from abc import ABC, abstractmethod
from pathlib import Path

from bench.certificates import Certificates
from bench.client import Login
from bench.process import Process, free_port

LOGIN = Login("edge", "s3cret-of-the-edge")


class Missing(Exception):
    """It is not on this machine; the argument says why."""


class Broker(ABC):
    """One broker on loopback, as its package comes where nothing else is said, with a user and TLS."""

    name: str
    # What the config sets beyond addresses, users and certificates, for the page.
    settings = ""

    def __init__(self, folder: Path, packages: Path, certificates: Certificates) -> None:
        self.folder, self.packages, self.certificates = folder, packages, certificates
        folder.mkdir(parents=True)
        self.port, self.tls_port, self.ws_port = free_port(), free_port(), free_port()
        self._process: Process | None = None

    @abstractmethod
    def version(self) -> str:
        """Raises `Missing`."""

    @abstractmethod
    def start(self) -> None:
        """Starts it on its data, and returns once it takes connections."""

    def start_with_tls(self) -> None:
        """The same where one listener cannot do both; then `tls_port` is open."""

    def stop(self) -> None:
        """As its service is stopped."""
        if self._process:
            self._process.end()
            self._process = None

    def log(self) -> str:
        return self._process.tail() if self._process else ""


def tool(packages: Path, *names: str) -> Path:
    """The first of these programs, from what was unpacked or of the system."""
    for root in (packages / "root", Path("/")):
        for name in names:
            if (root / name).exists():
                return root / name
    raise Missing(f"there is no {Path(names[0]).name}")
