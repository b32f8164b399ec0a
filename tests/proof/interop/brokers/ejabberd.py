"""ejabberd of Debian 12, with its mod_mqtt."""

import json
from pathlib import Path

from bench.process import Process
from brokers.broker import LOGIN, Broker, Missing
from brokers.erlang import erlang


class Ejabberd(Broker):
    name = "ejabberd"
    settings = "mod_mqtt's defaults"

    def version(self) -> str:
        erlang(self.packages)
        return self._home().name.split("-")[1]

    def start(self) -> None:
        program, env = erlang(self.packages)
        config = {
            "hosts": ["localhost"],
            "loglevel": "warning",
            "auth_method": "internal",
            "certfiles": [str(self.certificates.both())],
            "listen": [
                {"port": self.port, "ip": "127.0.0.1", "module": "mod_mqtt"},
                {"port": self.tls_port, "ip": "127.0.0.1", "module": "mod_mqtt", "tls": True},
                {"port": self.ws_port, "ip": "127.0.0.1", "module": "ejabberd_http", "request_handlers": {"/mqtt": "mod_mqtt"}},
            ],
            "modules": {"mod_mqtt": {}},
        }
        # JSON is YAML.
        (self.folder / "ejabberd.yml").write_text(json.dumps(config, indent=2))
        env |= {
            "EJABBERD_CONFIG_PATH": str(self.folder / "ejabberd.yml"),
            "EJABBERD_LOG_PATH": str(self.folder / "ejabberd.log"),
            "ERL_LIBS": str(self._home().parent),
        }
        user, password = (f'<<"{word}">>' for word in LOGIN)
        register = f'ejabberd_auth:try_register({user}, <<"localhost">>, {password}).'
        command = [program, "-noinput", "-mnesia", "dir", f'"{self.folder}/data"', "-s", "ejabberd", "-eval", register]
        self._process = Process(command, self.folder / "log", env, self.folder)
        self._process.wait_listening(self.port, self.tls_port)

    def _home(self) -> Path:
        found = sorted((self.packages / "root/usr/lib").glob("*-linux-gnu/ejabberd-*/ebin"))
        if not found:
            raise Missing("Debian's ejabberd was not unpacked")
        return found[-1].parent
