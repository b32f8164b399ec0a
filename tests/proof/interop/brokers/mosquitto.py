"""Mosquitto of Debian 12."""

import subprocess

from bench.process import Process
from brokers.broker import LOGIN, Broker, tool


class Mosquitto(Broker):
    name = "Mosquitto"
    settings = "`persistence true`, as Debian's own config has it"

    def version(self) -> str:
        told = subprocess.run([tool(self.packages, "usr/sbin/mosquitto"), "-h"], capture_output=True, text=True, check=False).stdout
        return told.split()[2]

    def start(self) -> None:
        users, config, data = self.folder / "users", self.folder / "mosquitto.conf", self.folder / "data"
        data.mkdir(exist_ok=True)
        subprocess.run(
            [tool(self.packages, "usr/bin/mosquitto_passwd"), "-b", "-c", users, LOGIN.user, LOGIN.password], check=True, capture_output=True
        )
        config.write_text(
            f"""
user root
allow_anonymous false
password_file {users}
persistence true
persistence_location {data}/
listener {self.port} 127.0.0.1
listener {self.tls_port} 127.0.0.1
certfile {self.certificates.cert}
keyfile {self.certificates.key}
listener {self.ws_port} 127.0.0.1
protocol websockets
"""
        )
        self._process = Process([tool(self.packages, "usr/sbin/mosquitto"), "-c", config], self.folder / "log")
        self._process.wait_listening(self.port, self.tls_port)
