"""What is on the machine's disk while it is off: looked at on a copy, so that the next start finds what the cut left."""

import os
import re
import shutil
import sqlite3
import subprocess

from bench.waiting import check

# The log of the gateway says one of these when it finds a store that it cannot trust.
DAMAGED = re.compile(r"damaged|salvage|quarantine|set aside|malformed", re.IGNORECASE)


def read(machine):
    """The gateway's stores, as they are found after a power cut: the journal of the file system is carried out, then each file is read through by
    SQLite, which carries out its log. Returns how many there are, and the topics and payloads that wait for the cloud."""
    copy, files = machine.path("copy"), machine.path("stores")
    shutil.rmtree(files, ignore_errors=True)
    os.makedirs(files)
    subprocess.run(["cp", "--sparse=always", machine.path("disk"), copy], check=True)
    checked = machine.tool("e2fsck", "-f", "-p", copy)
    check(checked.returncode in (0, 1), f"the file system is not sound: {checked.stdout}")
    machine.tool("debugfs", "-R", f"rdump /state {files}", copy)
    state = os.path.join(files, "state")
    names = sorted(name for name in os.listdir(state) if name.endswith(".db"))
    check(names, f"no store is on the disk: {os.listdir(state)}")
    check("quarantine" not in os.listdir(state), "a store was set aside as damaged")
    waiting = set()
    for name in names:
        store = sqlite3.connect(os.path.join(state, name))
        try:
            verdict = store.execute("PRAGMA integrity_check").fetchall()
            check(verdict == [("ok",)], f"{name} is not sound: {verdict[:5]}")
            if name.startswith("outbox-"):
                for of_class in range(4):
                    rows = store.execute(f"SELECT topic, payload FROM q{of_class}")
                    waiting |= {(topic, bytes(payload).decode()) for topic, payload in rows}
        finally:
            store.close()
    os.unlink(copy)
    return len(names), waiting
