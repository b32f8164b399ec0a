"""RabbitMQ of Debian 12, with its MQTT plugin."""

from pathlib import Path

from bench.process import Process, free_port
from brokers.broker import LOGIN, Broker, Missing
from brokers.erlang import erlang


class RabbitMq(Broker):
    name = "RabbitMQ"
    settings = "the plugin's defaults"

    def version(self) -> str:
        erlang(self.packages)
        return self._home().name.rsplit("-", 1)[1]

    def start(self) -> None:
        program, env = erlang(self.packages)
        self._epmd(env)
        home, data = self._home(), self.folder / "data"
        data.mkdir(exist_ok=True)
        (self.folder / "plugins").write_text("[rabbitmq_mqtt,rabbitmq_web_mqtt].\n")
        (self.folder / "rabbitmq.conf").write_text(
            f"""
listeners.tcp = none
default_user = {LOGIN.user}
default_pass = {LOGIN.password}
default_permissions.configure = .*
default_permissions.read = .*
default_permissions.write = .*
mqtt.allow_anonymous = false
mqtt.listeners.tcp.1 = 127.0.0.1:{self.port}
mqtt.listeners.ssl.1 = 127.0.0.1:{self.tls_port}
web_mqtt.tcp.ip = 127.0.0.1
web_mqtt.tcp.port = {self.ws_port}
ssl_options.cacertfile = {self.certificates.ca}
ssl_options.certfile = {self.certificates.cert}
ssl_options.keyfile = {self.certificates.key}
ssl_options.verify = verify_none
"""
        )
        env |= {
            "ERL_LIBS": str(home / "plugins"),
            "RABBITMQ_HOME": str(home),
            "RABBITMQ_NODENAME": "rabbit@localhost",
            "RABBITMQ_PLUGINS_DIR": str(home / "plugins"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_MNESIA_BASE": str(data),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "SYS_PREFIX": str(self.folder),
        }
        command = [program, "-noinput", "-s", "rabbit", "boot", "-boot", "start_sasl", "-syslog", "logger", "[]"]
        command += ["-kernel", "inet_dist_use_interface", "{127,0,0,1}"]
        self._process = Process(command, self.folder / "log", env)
        self._process.wait_listening(self.port, self.tls_port)

    def _epmd(self, env: dict[str, str]) -> None:
        """The name server of Erlang's nodes, on a port of our own, so that none is left behind."""
        self.epmd_port = free_port()
        env |= {"ERL_EPMD_PORT": str(self.epmd_port), "ERL_EPMD_ADDRESS": "127.0.0.1"}
        self._names = Process([Path(env["BINDIR"]) / "epmd", "-port", str(self.epmd_port), "-address", "127.0.0.1"], self.folder / "epmd.log", env)
        self._names.wait_listening(self.epmd_port)

    def stop(self) -> None:
        if self._process:
            super().stop()
            self._names.end()

    def _home(self) -> Path:
        found = sorted((self.packages / "root/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))
        if not found:
            raise Missing("Debian's rabbitmq-server was not unpacked")
        return found[-1]
