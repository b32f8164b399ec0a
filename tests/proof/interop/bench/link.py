"""The way from the gateway to the cloud: a TCP proxy that listens in, cuts by RST in the middle of a packet, and holds a packet back."""

import socket
import threading
from collections.abc import Callable

from bench import wire
from bench.journal import Connection, Journal


class Link:
    """Accepts at `port` and connects to what `target` names at that moment. `listens_in` is off where TLS is spoken."""

    def __init__(self, target: Callable[[], int], listens_in: bool = True) -> None:
        self.journal = Journal()
        self.away = False
        self.cuts = 0
        # Where the last connection leads.
        self.leads_to = 0
        self._target, self._listens_in = target, listens_in
        # At so many different messages: cut in the middle of that PUBLISH, or of the acknowledgement that comes next.
        self._cut_in_publish: set[int] = set()
        self._cut_in_answer: set[int] = set()
        self._cut_next_answer = False
        self._hold_at: int | None = None
        self.held = threading.Event()
        self._released = threading.Event()
        self._released.set()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def plan(self, in_publish: set[int], in_answer: set[int], hold_at: int | None = None) -> None:
        """Where the blows fall, counted in different messages from the start of the journal."""
        self._cut_in_publish, self._cut_in_answer, self._hold_at = set(in_publish), set(in_answer), hold_at
        self.held.clear()
        self._released.clear()

    def planned(self) -> int:
        """Blows that have not fallen yet."""
        return len(self._cut_in_publish) + len(self._cut_in_answer) + self._cut_next_answer + (self._hold_at is not None)

    def release(self) -> None:
        self._released.set()

    def cut_all(self) -> None:
        for pair in list(self._pairs):
            self._cut(pair)

    def close(self) -> None:
        self.away = True
        self._released.set()
        self._listener.close()
        self.cut_all()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.away:
                wire.reset(near)
                continue
            try:
                leads_to = self._target()
                far = socket.create_connection(("127.0.0.1", leads_to), 5)
                self.leads_to = leads_to
            except OSError:
                wire.reset(near)
                continue
            far.settimeout(None)
            for stream in (near, far):
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = (near, far)
            self._pairs.add(pair)
            told = self.journal.connection()
            threading.Thread(target=self._carry, args=(pair, near, far, told, True), daemon=True).start()
            threading.Thread(target=self._carry, args=(pair, far, near, told, False), daemon=True).start()

    def _carry(self, pair: tuple[socket.socket, socket.socket], source: socket.socket, sink: socket.socket, told: Connection, up: bool) -> None:
        splitter = wire.Splitter()
        try:
            while data := source.recv(65536):
                if not self._listens_in:
                    sink.sendall(data)
                    continue
                for packet in splitter.feed(data):
                    if self._falls(packet, told, up):
                        sink.sendall(packet.raw[: max(1, len(packet.raw) // 2)])
                        self.cuts += 1
                        return self._cut(pair)
                    sink.sendall(packet.raw)
        except (OSError, wire.Breach):
            pass
        if not up and pair in self._pairs and not self.away:
            told.closed_by_broker()
        self._pairs.discard(pair)
        for stream in pair:
            try:
                stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            stream.close()

    def _falls(self, packet: wire.Packet, told: Connection, up: bool) -> bool:
        """Whether the link is cut in this packet."""
        if not up:
            told.down(packet)
            cut = self._cut_next_answer and packet.kind in (wire.PUBACK, wire.PUBREC, wire.PUBCOMP)
            self._cut_next_answer = self._cut_next_answer and not cut
            return cut
        before = self.journal.distinct()
        if not told.up(packet):
            return False
        count = self.journal.distinct()
        if count == before:
            return False
        if count == self._hold_at:
            self._hold_at = None
            self.held.set()
            self._released.wait()
        if count in self._cut_in_answer:
            self._cut_in_answer.discard(count)
            self._cut_next_answer = True
        if count in self._cut_in_publish:
            self._cut_in_publish.discard(count)
            return True
        return False

    def _cut(self, pair: tuple[socket.socket, socket.socket]) -> None:
        self._pairs.discard(pair)
        for stream in pair:
            wire.reset(stream)
