"""The cloud: a Mosquitto on the host's loopback, behind a link that can be cut."""

import os
import shutil
import socket
import subprocess
import threading

from bench.machine import free_port
from bench.mqtt import Client
from bench.waiting import wait_until


class Link:
    """A TCP relay to a port of the loopback."""

    def __init__(self, target):
        self._target = target
        self._silent = False
        self._open = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self):
        """A black hole: what is connected stays so, new connections are taken, and nothing gets through."""
        self._silent = True

    def mend(self):
        """Connections that met the black hole end; new ones get through."""
        self._silent = False
        self._close()

    def _close(self):
        with self._lock:
            streams, self._open = self._open, []
        for stream in streams:
            # Another thread reads: only a shutdown wakes it.
            try:
                stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            stream.close()

    def _accept(self):
        while True:
            near, _ = self._listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            with self._lock:
                self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source, sink):
        try:
            while True:
                received = source.recv(65536)
                if not received:
                    break
                if not self._silent:
                    sink.sendall(received)
        except OSError:
            pass
        if not self._silent:
            for stream in (source, sink):
                try:
                    stream.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


class Cloud:
    """A broker, the link a gateway reaches it by, and a client that hears everything at it."""

    def __init__(self, cache, place):
        os.makedirs(place, exist_ok=True)
        port = free_port()
        config = os.path.join(place, "mosquitto.conf")
        with open(config, "w") as file:
            file.write(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
        path = f"{os.environ['PATH']}:/usr/sbin:{cache}/tools/usr/sbin"
        libraries = os.path.join(cache, "tools/usr/lib/x86_64-linux-gnu")
        with open(os.path.join(place, "mosquitto.log"), "ab") as log:
            self._process = subprocess.Popen(
                [shutil.which("mosquitto", path=path), "-c", config],
                env={"PATH": path, "LD_LIBRARY_PATH": libraries}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        self.client = wait_until("Mosquitto to listen", lambda: _client(port))
        self.link = Link(port)

    def bridge(self, **settings):
        """The bridge to it, as a block of a gateway's config; 10.0.2.2 is the host's loopback as the machine sees it."""
        settings = {"keep_alive": "5s", "connect_timeout": "5s", "reconnect": {"min": "500ms", "max": "1s"}} | settings
        keys = "\n".join(f"{key} = {_toml(value)}" for key, value in settings.items())
        return f"""
[[bridge]]
id = "cloud"
url = "mqtt://10.0.2.2:{self.link.port}"
{keys}
out = [{{ from = "tidegate/{{gateway}}/#" }}]
in = [{{ from = "command/{{gateway}}/+/set", to = "tidegate/{{gateway}}/{{1}}/set" }}]
"""

    def end(self):
        self._process.terminate()
        self._process.wait()


def _client(port):
    try:
        return Client(port, "everything")
    except (OSError, EOFError):
        return None


def _toml(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
