"""Erlang of Debian 12, unpacked: what RabbitMQ and ejabberd run on."""

from pathlib import Path

from brokers.broker import Missing


def erlang(packages: Path) -> tuple[Path, dict[str, str]]:
    """The program and the environment that make the unpacked Erlang find itself."""
    root = packages / "root/usr/lib/erlang"
    found = sorted(root.glob("erts-*/bin"))
    if not found:
        raise Missing("Debian's Erlang was not unpacked")
    home = packages / "home"  # for Erlang's cookie
    home.mkdir(exist_ok=True)
    libraries = ":".join(str(path) for path in (packages / "root/usr/lib").glob("*-linux-gnu"))
    env = {"ROOTDIR": str(root), "BINDIR": str(found[-1]), "EMU": "beam", "PROGNAME": "erl", "HOME": str(home), "LD_LIBRARY_PATH": libraries}
    # Two schedulers are enough for a bench, and a test machine has no more.
    return found[-1] / "erlexec", env | {"ERL_FLAGS": "+S 2:2 +sbwt none"}
