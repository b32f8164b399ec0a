"""Everything one broker is looked at with: the broker, the link, the gateway, and what came of it."""

import ssl
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.certificates import Certificates
from bench.client import Client, Login
from bench.gateway import Gateway
from bench.link import Link
from brokers.broker import LOGIN, Broker


@dataclass
class Outcome:
    """A broker's column of the table, and what failed."""

    broker: str
    version: str = ""
    cells: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    skipped: str = ""


class Stage:
    def __init__(self, broker: Broker, binary: Path, folder: Path, certificates: Certificates, outcome: Outcome) -> None:
        self.broker, self.certificates, self.outcome = broker, certificates, outcome
        self._binary, self._folder = binary, folder
        self._made = 0
        self._visitors = 0
        self._gateways: list[Gateway] = []
        self._links: list[Link] = []

    def gateway(self) -> Gateway:
        """A new one, with an empty store."""
        self._made += 1
        gateway = Gateway(self._binary, self._folder / f"gateway-{self._made}", LOGIN)
        self._gateways.append(gateway)
        return gateway

    def link(self, *, tls: bool = False) -> Link:
        link = Link(lambda: self.broker.tls_port if tls else self.broker.port, listens_in=not tls)
        self._links.append(link)
        return link

    def cloud(self) -> Client:
        """A client at the cloud, past the link. Each has a name of its own: NATS lets nobody in who takes over too fast."""
        self._visitors += 1
        return Client(self.broker.port, f"visitor-{self._visitors}", LOGIN)

    @property
    def login(self) -> Login:
        return LOGIN

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificates.ca))

    def look(self, row: str, look: Callable[["Stage"], str | None]) -> None:
        """Fills one cell, or as many as it fills itself. What goes wrong fails the run, and the other looks go on."""
        try:
            if cell := look(self):
                self.outcome.cells[row] = cell
        except (AssertionError, OSError, EOFError, LookupError, RuntimeError, ValueError) as error:
            self.outcome.cells[row] = "**FAILED**"
            where = traceback.extract_tb(error.__traceback__)[-1]
            last = self._gateways[-1].log(8) if self._gateways else ""
            self.outcome.failures.append(f"{row}: {error} ({Path(where.filename).name}:{where.lineno})\n{last}\n{self.broker.log()}")
        finally:
            self.clear()

    def clear(self) -> None:
        """Ends what a look has left."""
        for gateway in self._gateways:
            gateway.kill()
        for link in self._links:
            link.close()
        self._gateways.clear()
        self._links.clear()
