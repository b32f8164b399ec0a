"""Waiting for something that is to happen, with a deadline, and saying what was awaited when it does not."""

import time

# Long enough for a machine emulated on a busy host; a wait ends as soon as its condition holds.
PATIENCE = 30


class Missed(AssertionError):
    """What was awaited did not come."""


def wait_until(what, condition, timeout=PATIENCE, pause=0.1):
    """Calls `condition` until it returns something true, and returns that."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Missed(f"waited {timeout} s for {what}; last: {found!r}")
        time.sleep(pause)


def check(holds, what):
    """Like `assert`, but it says in words what does not hold."""
    if not holds:
        raise AssertionError(what)
