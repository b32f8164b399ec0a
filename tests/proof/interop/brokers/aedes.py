"""Aedes of npm, on Node.js, with its default persistence in memory."""

import json
import shutil
from pathlib import Path

from bench.process import Process
from brokers.broker import LOGIN, Broker, Missing


class Aedes(Broker):
    name = "Aedes"
    settings = "its default persistence, in memory"

    def version(self) -> str:
        package = self.packages / "node_modules/aedes/package.json"
        if not shutil.which("node"):
            raise Missing("there is no Node.js")
        if not package.exists():
            raise Missing("npm could not install it")
        return json.loads(package.read_text())["version"]

    def start(self) -> None:
        given = {
            "modules": str(self.packages / "node_modules"),
            "user": LOGIN.user,
            "password": LOGIN.password,
            "cert": str(self.certificates.cert),
            "key": str(self.certificates.key),
            "port": self.port,
            "tls_port": self.tls_port,
            "ws_port": self.ws_port,
        }
        self._process = Process(["node", Path(__file__).with_name("aedes.mjs"), json.dumps(given)], self.folder / "log")
        self._process.wait_listening(self.port, self.tls_port)
