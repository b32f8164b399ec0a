"""The load program, and what it says."""

import os
import subprocess

from stand.servers import Server


def command(server: Server, mode: str, **words: int) -> list[str]:
    return [os.environ["TIDEGATE_LOAD"], mode, f"port={server.port}", *(f"{name}={value}" for name, value in words.items())]


def load(server: Server, mode: str, timeout: float = 300, **words: int) -> dict[str, float]:
    """Runs it to its end and returns the figures it printed."""
    done = subprocess.run(command(server, mode, **words), capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise AssertionError(f"the load broke off: {done.stderr.strip().splitlines()[-1:]}; {server.name} {'lives' if server.lives() else 'has ended'}")
    return figures(done.stdout)


def figures(text: str) -> dict[str, float]:
    return {name: float(value) for name, _, value in (word.partition("=") for word in text.split())}


def scaled(count: int, quick: bool = False) -> int:
    """So many, or less where less was asked for."""
    return max(int(count * float(os.environ.get("TIDEGATE_BROKER_SCALE", "1")) * (0.02 if quick else 1)), 100)
