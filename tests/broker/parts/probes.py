"""The same bytes to both brokers."""

import concurrent.futures

import probes.delivery
import probes.five
import probes.rude  # noqa: F401  they enter themselves
from probes import PROBES, Probe, Stand
from stand.peer import VERSIONS
from stand.section import Section
from stand.servers import PANIC, Mosquitto, Server, Tidegate

TITLE = "Raw packets"
HOW = """
Each row is said to both brokers byte for byte, in 3.1.1 and in 5 where it has a meaning there, each to a broker of its own that nobody used before. `closes` is a
connection that the broker ended; `x@1` is a message with payload `x` delivered at QoS 1, `r` with retain, `d` with DUP. Mosquitto's answer is
told where it is another one.
"""

Answers = dict[int, str]
# Asked at one time: most wait.
TOGETHER = 6


def ask(probe: Probe, kind: type[Server]) -> Answers:
    answers = {}
    for version in probe.expected:
        with kind() as server:
            stand = Stand(server, version)
            try:
                answers[version] = probe.run(stand)
            except (AssertionError, AttributeError, EOFError, IndexError, OSError) as error:
                answers[version] = f"({error})"
            finally:
                stand.close()
            if not server.lives():
                answers[version] += ", **it has ended**"
            elif server.said(PANIC):
                answers[version] += ", **it panicked**"
    return answers


def told(answers: Answers) -> str:
    """One answer where both are the same."""
    if len(set(answers.values())) == 1:
        return next(iter(answers.values()))
    return "; ".join(f"{VERSIONS[version]}: {words}" for version, words in answers.items())


def run(section: Section, quick: bool) -> None:
    asked = [(group, probe) for group, all_of in PROBES.items() for probe in all_of]
    with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
        ours = list(pool.map(lambda each: ask(each[1], Tidegate), asked))
        theirs = list(pool.map(lambda each: ask(each[1], Mosquitto), asked))
    wrong = 0
    for group in PROBES:
        rows = []
        for (of, probe), own, other in zip(asked, ours, theirs):
            if of != group:
                continue
            cell = told(own)
            if own != probe.expected:
                wrong += 1
                cell += f" — **expected** {told(probe.expected)}"
            rows.append([probe.name, cell, "the same" if other == own else told(other)])
        section.say(f"\n### {group}")
        section.table(["what is sent", "tidegate", "Mosquitto"], rows)
    section.hold("raw packets, answers that are not what the specification or our own page wants", f"0 of {len(asked)}", str(wrong), wrong == 0)
