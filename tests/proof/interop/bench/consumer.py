"""The consumer at the cloud: a persistent session that is connected all the time, also over a restart of the broker."""

import threading
from collections import Counter

from bench import wire
from bench.client import Client, Login, Refused
from bench.waiting import wait_until


class Consumer:
    """Subscribed once it is made. Connects again when the broker went, and subscribes again where the broker forgot it."""

    def __init__(self, port: int, login: Login | None, topic_filter: str, qos: int, name: str = "consumer") -> None:
        self._ports, self._login, self._filter, self._qos, self._name = [port], login, topic_filter, qos, name
        self._held: set[int] = set()
        self._lock = threading.Lock()
        self._earlier: list[wire.Publish] = []
        self._client: Client | None = None
        self._closed = threading.Event()
        self.granted = qos
        self.connections = 0
        self.sessions_lost = 0
        self.breaches: list[str] = []
        threading.Thread(target=self._run, daemon=True).start()
        self.wait_connected()

    def also_at(self, *ports: int) -> None:
        """Where else it may connect, by turns: other nodes of a cluster."""
        self._ports += ports

    @property
    def connected(self) -> bool:
        return self._client is not None

    def wait_connected(self) -> None:
        wait_until("the consumer's connection to the broker", lambda: self._client)

    def messages(self) -> list[wire.Publish]:
        with self._lock:
            return self._earlier + (list(self._client.messages) if self._client else [])

    def numbers(self, topic: str) -> Counter[int]:
        """How often each numbered message of that topic came."""
        return Counter(int(m.payload) for m in self.messages() if m.topic == topic and m.payload.isdigit())

    def close(self) -> None:
        self._closed.set()
        if client := self._client:
            client.close()

    def _run(self) -> None:
        turn = 0
        while not self._closed.wait(0.05):
            turn += 1
            try:
                client = Client(self._ports[turn % len(self._ports)], self._name, self._login, clean=False, held=self._held)
            except (OSError, EOFError, Refused, wire.Breach):
                continue
            if self.connections and not client.session_present:
                self.sessions_lost += 1
            try:
                if not client.session_present or not self.connections:
                    self.granted = client.subscribe(self._filter, self._qos)
            except (OSError, EOFError, AssertionError):
                client.close()
                continue
            self.connections += 1
            with self._lock:
                self._client = client
            with client.changed:
                client.changed.wait_for(lambda: client.ended is not None)
            if client.ended and client.ended.startswith("breach"):
                self.breaches.append(client.ended)
            with self._lock:
                self._earlier += client.messages
                self._client = None
