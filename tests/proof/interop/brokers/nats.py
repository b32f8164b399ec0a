"""NATS server of Debian 12, with JetStream and its MQTT listener."""

import subprocess

from bench.process import Process, free_port
from brokers.broker import LOGIN, Broker, tool


class Nats(Broker):
    name = "NATS"
    settings = "JetStream on disk"

    def version(self) -> str:
        told = subprocess.run([tool(self.packages, "usr/sbin/nats-server", "usr/bin/nats-server"), "-v"], capture_output=True, text=True, check=True)
        return told.stdout.split()[-1].lstrip("v")

    def start(self) -> None:
        self._start(self.port, "")

    def start_with_tls(self) -> None:
        # Its MQTT listener is one, with TLS or without.
        self.stop()
        self._start(self.tls_port, f'tls {{ cert_file: "{self.certificates.cert}", key_file: "{self.certificates.key}" }}')

    def _start(self, port: int, tls: str) -> None:
        config, client = self.folder / "nats.conf", free_port()
        config.write_text(
            f"""
server_name: one
listen: 127.0.0.1:{client}
jetstream {{ store_dir: "{self.folder}/data" }}
authorization {{ users = [ {{ user: {LOGIN.user}, password: "{LOGIN.password}" }} ] }}
mqtt {{
  listen: "127.0.0.1:{port}"
  {tls}
}}
websocket {{ listen: "127.0.0.1:{self.ws_port}", no_tls: true }}
"""
        )
        self._process = Process([tool(self.packages, "usr/sbin/nats-server", "usr/bin/nats-server"), "-c", config], self.folder / "log")
        self._process.wait_listening(port)
