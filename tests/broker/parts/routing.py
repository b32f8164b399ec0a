"""What a user of `routing = "rumqttd"` gains and loses: the same questions and loads to both routings of this broker."""

import concurrent.futures
import statistics

from parts.figures import LATE, LOADS, OURS
from parts.probes import PROBES, TOGETHER, Answers, ask, told
from stand.load import load, scaled
from stand.section import Section
from stand.servers import PANIC, Tidegate

TITLE = "The other routing: rumqttd's router"
HOW = """
`routing = "rumqttd"` beside the default, `"trie"`. Every raw packet of above is sent to it, and the loads of above are run with both by turns, three times each; told are
medians. A load that ends with fewer messages than were published says so. Why both are there: [decision 0002](decisions/0002-routing.md).
"""

ROUTINGS = ("trie", "rumqttd")
RUNS = 3
# Each filter in use keeps a log of its own.
FILTERS = dict(qos=0, messages=200_000, pairs=100)


class Rumqttd(Tidegate):
    """The gateway's broker with the other routing."""

    name = "rumqttd"

    def __init__(self, **settings: str | int | bool) -> None:
        super().__init__(routing="rumqttd", **settings)


def run(section: Section, quick: bool) -> None:
    ended = answers(section)
    panics = speed(section, quick) + ended
    section.hold('`routing = "rumqttd"`: panics, and brokers that ended', "0", str(panics), panics == 0)


def answers(section: Section) -> int:
    """The rows that it answers otherwise; returns how often it ended or panicked."""
    asked = [probe for all_of in PROBES.values() for probe in all_of]
    with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
        found: list[Answers] = list(pool.map(lambda probe: ask(probe, Rumqttd), asked))
    others = [(probe, own) for probe, own in zip(asked, found) if own != probe.expected]
    section.say(f"Of {len(asked)} raw packets it answers {len(asked) - len(others)} as the default does.")
    if others:
        section.table(["what is sent", "trie", "rumqttd"], [[probe.name, told(probe.expected), told(own)] for probe, own in others])
    return sum("**" in told(own) for own in found)


def speed(section: Section, quick: bool) -> int:
    """Both by turns; returns how many panics there were."""
    rows, late = [], []
    servers = [Tidegate(**OURS), Rumqttd(**OURS)]
    with servers[0], servers[1]:
        fresh = [server.rss() for server in servers]
        for name, words in LOADS.items():
            runs = turns(servers, "throughput", words, quick)
            rates = [statistics.median(run["rate"] for run in of) for of in runs]
            lost = [int(sum(run["lost"] for run in of)) for of in runs]
            rows.append([name, *(f"{rate:,.0f}" for rate in rates), f"{rates[1] / rates[0]:.2f}", *map(str, lost)])
        for name, words in LATE.items():
            runs = turns(servers, "latency", words, quick)
            late.append([name, *(" / ".join(f"{statistics.median(run[of_run] for run in of):.0f}" for of_run in ("p50", "p99")) for of in runs)])
        after = [server.rss() for server in servers]
        for server in servers:
            load(server, "throughput", **FILTERS | {"messages": scaled(FILTERS["messages"], quick)})
        filters = [server.rss() for server in servers]
        panics = sum(len(server.said(PANIC)) for server in servers)
    section.say("\nMessages a second, in memory:")
    section.table(["", *ROUTINGS, "ratio", "lost by trie", "lost by rumqttd"], rows)
    section.say("\nFrom publisher to subscriber at 1,000 messages a second, median / 99th percentile, µs:")
    section.table(["", *ROUTINGS], late)
    section.table(
        ["", *ROUTINGS],
        [
            ["memory after the start, MB", *(f"{value:.1f}" for value in fresh)],
            ["memory after these loads, MB", *(f"{value:.1f}" for value in after)],
            [f"memory after {FILTERS['messages']:,} more through {FILTERS['pairs']} filters, MB", *(f"{value:.1f}" for value in filters)],
        ],
    )
    return panics


def turns(servers: list[Tidegate], mode: str, words: dict[str, int], quick: bool) -> list[list[dict[str, float]]]:
    words = words | {"messages": scaled(words["messages"], quick)}
    found: list[list[dict[str, float]]] = [[] for _ in servers]
    for _ in range(1 if quick else RUNS):
        for server, runs in zip(servers, found):
            runs.append(load(server, mode, **words))
    return found
