"""The gateway under test: the real binary, with one bridge."""

import json
import signal
from pathlib import Path

from bench.client import Client, Login
from bench.process import Process, free_port
from bench.waiting import wait_until

STATUS = "tidegate/box/status"
STATE = "tidegate/box/bridge/cloud"

CONFIG = """
[gateway]
id = "box"
state_dir = "{state}"

[broker]
listen = "127.0.0.1:{port}"
max_packet = "8MiB"

[[bridge]]
id = "cloud"
url = "{url}"
username = "{user}"
password = "file:{password}"
version = "auto"
will_delay = "0s"
reconnect = {{ min = "100ms", max = "500ms", stable = "0s" }}
out = [ {{ from = "up/#" }} ]
in = [ {{ from = "down/#", to = "local/{{1}}", qos = 1 }} ]
{tls}"""


class Gateway:
    """A folder, a config and the process. `client` listens in at its local broker."""

    def __init__(self, binary: Path, folder: Path, login: Login) -> None:
        self._binary, self._folder, self._login = binary, folder, login
        folder.mkdir(parents=True)
        (folder / "password").write_text(login.password)
        (folder / "password").chmod(0o600)
        self.port = free_port()
        self._process: Process | None = None
        self.client: Client | None = None

    def start(self, url: str, ca: Path | None = None) -> None:
        config = self._folder / "tidegate.toml"
        config.write_text(
            CONFIG.format(
                state=self._folder / "state",
                port=self.port,
                url=url,
                user=self._login.user,
                password=self._folder / "password",
                tls=f'tls = {{ ca = "{ca}" }}' if ca else "",
            )
        )
        self._process = Process([self._binary, "run", "--config", config], self._folder / "gateway.log")
        self._process.wait_listening(self.port)
        self.client = Client(self.port, "watcher")
        for topic_filter in ("local/#", STATE):
            self.client.subscribe(topic_filter)

    def state(self) -> dict:
        """What the bridge said of itself last."""
        told = self.client.heard(STATE) if self.client else []
        return json.loads(told[-1].payload) if told else {}

    def wait_online(self) -> None:
        wait_until("the bridge to be online", lambda: self.state().get("state") == "online" or None)

    def wait_reason(self, timeout: float = 30) -> str:
        """Why the link is down."""
        wait_until("a reason why the link is down", lambda: self.state().get("reason"), timeout)
        return self.state()["reason"]

    def publisher(self) -> Client:
        return Client(self.port, "producer")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self.client:
            self.client.close()
            self.client = None
        if self._process:
            self._process.end(number)
            self._process = None

    def log(self, lines: int = 15) -> str:
        return "\n".join("  " + line for line in (self._folder / "gateway.log").read_text(errors="replace").splitlines()[-lines:])
