"""What is sent to both brokers, byte for byte, and what this broker must answer."""

from collections.abc import Callable
from typing import NamedTuple

from stand.peer import V5, V311, Peer
from stand.servers import Server


class Stand:
    """One broker and one version of MQTT."""

    def __init__(self, server: Server, version: int) -> None:
        self.server, self.version = server, version
        self._opened: list[Peer] = []

    def open(self) -> Peer:
        """A connection on which nothing was said."""
        peer = Peer(self.server.port, self.version)
        self._opened.append(peer)
        return peer

    def client(self, name: str, flags: int = 2, **rest) -> Peer:
        """A connected client."""
        peer = self.open()
        peer.connect(name, flags, **rest)
        return peer

    def close(self) -> None:
        for peer in self._opened:
            with peer:
                pass


class Probe(NamedTuple):
    """`expected` is this broker's answer, by version; a version that is not in it is not asked."""

    name: str
    expected: dict[int, str]
    run: Callable[[Stand], str]


PROBES: dict[str, list[Probe]] = {}


def probe(group: str, name: str, both: str | None = None, *, v311: str | None = None, v5: str | None = None):
    """Enters a probe into the list."""
    expected = {version: words for version, words in ((V311, v311 or both), (V5, v5 or both)) if words is not None}

    def enter(run: Callable[[Stand], str]) -> Callable[[Stand], str]:
        PROBES.setdefault(group, []).append(Probe(name, expected, run))
        return run

    return enter
