"""Three NATS servers with JetStream, everything of MQTT kept by all three (R3)."""

import urllib.error
import urllib.request
from itertools import count
from pathlib import Path

from bench.process import Process, free_port, listens
from bench.waiting import wait_until
from brokers.broker import LOGIN, tool

SIZE = 3


class Node:
    """One server, which can be killed and started again on its data."""

    def __init__(self, name: str, folder: Path, program: Path) -> None:
        self.name, self._folder, self._program = name, folder, program
        folder.mkdir(parents=True)
        self.mqtt, self.route, self._http = free_port(), free_port(), free_port()
        self._process: Process | None = None

    def configure(self, routes: list[int]) -> None:
        (self._folder / "nats.conf").write_text(
            f"""
server_name: {self.name}
listen: 127.0.0.1:{free_port()}
http: 127.0.0.1:{self._http}
jetstream {{ store_dir: "{self._folder}/data" }}
authorization {{ users = [ {{ user: {LOGIN.user}, password: "{LOGIN.password}" }} ] }}
cluster {{
  name: trio
  listen: 127.0.0.1:{self.route}
  routes: [ {", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)} ]
}}
mqtt {{
  listen: "127.0.0.1:{self.mqtt}"
  stream_replicas: {SIZE}
  consumer_replicas: {SIZE}
}}
"""
        )

    def start(self) -> None:
        self._process = Process([self._program, "-c", self._folder / "nats.conf"], self._folder / "log")

    def kill(self) -> None:
        if self._process:
            self._process.kill()

    def healthy(self) -> bool:
        """By its own word: it is back among the others. Whether it has caught up with every consumer is not waited for: 2.9.10 may say for
        minutes that it has not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._http}/healthz?js-server-only=true", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False


class Cluster:
    def __init__(self, folder: Path, packages: Path) -> None:
        program = tool(packages, "usr/sbin/nats-server", "usr/bin/nats-server")
        self.nodes = [Node(f"node-{n}", folder / f"node-{n}", program) for n in range(1, SIZE + 1)]
        self._turn = count()

    def start(self) -> None:
        for node in self.nodes:
            node.configure([other.route for other in self.nodes if other is not node])
            node.start()
        self.wait_healthy()

    def wait_healthy(self) -> None:
        wait_until("all three nodes to be healthy", lambda: all(node.healthy() for node in self.nodes), pause=0.1)

    def living(self) -> int:
        """Where a load balancer sends the next connection: by turns, to a node that answers."""
        for _ in self.nodes:
            node = self.nodes[next(self._turn) % SIZE]
            if listens(node.mqtt):
                return node.mqtt
        raise ConnectionRefusedError("no node answers")

    def end(self) -> None:
        for node in self.nodes:
            node.kill()
