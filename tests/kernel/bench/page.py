"""docs/kernel.md: what was seen on each kind of machine. A run writes the section of its own kind; those of the others stay as they are, and the table at
the top is made of all of them."""

import os
import re
import subprocess
import time
from typing import NamedTuple

HEAD = """# Under a real kernel

What the gateway does on real kernel interfaces: the chips of GPIO, I²C, 1-Wire and serial ports of a machine that QEMU emulates, whose lines, sensors,
plugs and power a script outside works ([testing](testing.md#under-a-real-kernel-testskernel)). One command runs it and writes its section here:

    tests/kernel/run --on KIND page

An emulated processor tells no latency: how long a reading takes to a subscriber is measured natively ([figures](testing.md#figures)).
"""

VERDICTS = ("ok", "FAILED", "skipped")
MARK = "<!-- kind: {} -->"


class Seen(NamedTuple):
    """Of the machine and the program, while both were there."""

    release: str
    boot_s: float
    program_bytes: int
    # "program" or "package".
    kind_of_program: str

    @classmethod
    def of(cls, machine, program):
        return cls(machine.shell("uname -r").strip(), machine.boot_s, os.path.getsize(program), "package" if program.endswith(".deb") else "program")


def write(path, kind, seen, rows):
    """`rows` are (title, verdict, seconds or None, notes)."""
    sections = _sections(path)
    sections[kind] = _section(kind, seen, rows)
    text = HEAD + "\n" + _matrix(sections)
    for name in sorted(sections):
        text += f"\n{MARK.format(name)}\n{sections[name]}"
    with open(path, "w") as page:
        page.write(text)


def _section(kind, seen, rows):
    verdicts = [verdict for _, verdict, _, _ in rows]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS)
    here = os.path.dirname(os.path.abspath(__file__))
    commit = subprocess.run(["git", "-C", here, "log", "-1", "--format=%h"], capture_output=True, text=True).stdout.strip()
    lines = [
        f"## {kind}",
        "",
        f"{counts}. Linux {seen.release}, up after {seen.boot_s:.1f} s; a {seen.kind_of_program} of {seen.program_bytes:,} bytes. "
        f"{time.strftime('%Y-%m-%d')}, commit {commit}.",
        "",
        "| scenario | | s | seen |",
        "|---|---|---|---|",
    ]
    for title, verdict, seconds, notes in rows:
        took = "" if seconds is None else f"{seconds:.0f}"
        lines.append(f"| {title.replace('_', ' ')} | {verdict} | {took} | {'; '.join(notes)} |")
    return "\n".join(lines) + "\n"


def _sections(path):
    if not os.path.exists(path):
        return {}
    with open(path) as page:
        parts = re.split(r"^<!-- kind: (\S+) -->\n", page.read(), flags=re.M)[1:]
    return {name: text.rstrip("\n") + "\n" for name, text in zip(parts[::2], parts[1::2])}


def _matrix(sections):
    """A row a scenario, a column a kind."""
    verdicts = {}
    for kind, text in sections.items():
        for title, verdict in re.findall(rf"^\| (.+?) \| ({'|'.join(VERDICTS)}) \|", text, flags=re.M):
            verdicts.setdefault(title, {})[kind] = verdict
    kinds = sorted(sections)
    lines = [f"| scenario | {' | '.join(kinds)} |", "|---" * (1 + len(kinds)) + "|"]
    for title in sorted(verdicts):
        lines.append(f"| {title} | {' | '.join(verdicts[title].get(kind, '') for kind in kinds)} |")
    return "\n".join(lines) + "\n"
