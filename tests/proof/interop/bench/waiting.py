"""Waiting for something that is to happen, with a deadline, and saying what was awaited when it does not."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Long enough for an Erlang broker to start on a busy host; a wait ends as soon as its condition holds.
PATIENCE = 60.0


class Missed(AssertionError):
    """What was awaited did not come."""


def wait_until(what: str, condition: Callable[[], T], timeout: float = PATIENCE, pause: float = 0.02) -> T:
    """Calls `condition` until it returns something true, and returns that."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Missed(f"waited {timeout:.0f} s for {what}; last: {found!r}")
        time.sleep(pause)


def holds_within(condition: Callable[[], object], timeout: float, pause: float = 0.02) -> bool:
    """Whether it comes to hold in that time; for what a broker may do or not."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True
