"""The cloud is a cluster whose nodes are killed in turn while messages come in: nothing may be lost.

Three NATS servers and not three RabbitMQ: one of those takes ten seconds and more to start on two cores, so that with a node killed every
five seconds there would be no majority left, and the queues of 3.10's MQTT plugin are kept by one node unless a policy mirrors them."""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import page
from bench.client import Client, Refused
from bench.consumer import Consumer
from bench.gateway import Gateway
from bench.link import Link
from bench.waiting import Missed, wait_until
from brokers.broker import LOGIN, Missing
from brokers.nats_cluster import Cluster
from campaign import Tally

RATE = 200
SECONDS = 60
EVERY = 5.0
TOPIC = "up/once"


def paced(count: int) -> Iterator[tuple[str, str, int]]:
    """Numbered messages, each when its time has come."""
    begun = time.monotonic()
    for number in range(1, count + 1):
        time.sleep(max(0.0, begun + number / RATE - time.monotonic()))
        yield TOPIC, str(number), 1


def consumer_of(cluster: Cluster) -> Consumer:
    """A cluster that has just elected its leaders takes a while to take the first client in."""
    first = cluster.nodes[0].mqtt

    def welcomed() -> bool:
        try:
            Client(first, "first", LOGIN).close()
            return True
        except (OSError, EOFError, Refused):
            return False

    wait_until("the cluster to take a client in", welcomed)
    consumer = Consumer(first, LOGIN, "up/#", 1)
    consumer.also_at(*(node.mqtt for node in cluster.nodes[1:]))
    return consumer


def blows(cluster: Cluster, link: Link, producer: Thread) -> list[float]:
    """Kills a node, the bridge's own and the next in turn by turns, and starts it again at once. The next blow waits until all three are members again: two
    out of three at a time are more than any cluster of three promises to stand. Returns when each fell."""
    fell: list[float] = []
    begun = time.monotonic()
    while producer.is_alive():
        time.sleep(max(0.0, begun + EVERY * (len(fell) + 1) - time.monotonic()))
        if not producer.is_alive():
            break
        cluster.wait_healthy()
        own = next(node for node in cluster.nodes if node.mqtt == link.leads_to)
        node = cluster.nodes[len(fell) // 2 % len(cluster.nodes)] if len(fell) % 2 else own
        node.kill()
        fell.append(time.monotonic() - begun)
        node.start()
    return fell


def drain(gateway: Gateway, consumer: Consumer, link: Link, count: int) -> None:
    def state() -> tuple[int, int]:
        return len(consumer.numbers(TOPIC)), len(link.journal.acknowledged)

    while (before := state())[0] < count:
        try:
            wait_until("progress", lambda: state() != before, 30, 0.2)
        except Missed:
            break
    wait_until(f"an empty store; the bridge says {gateway.state()}", lambda: gateway.state().get("queued") == 0)


def run(options: argparse.Namespace, folder: Path) -> tuple[list[str], list[str]]:
    """The lines of the table, and what was missed."""
    count = RATE * options.seconds
    cluster = Cluster(folder, options.packages)
    link = Link(cluster.living)
    gateway = Gateway(options.binary, folder / "gateway", LOGIN)
    consumer = None
    try:
        cluster.start()
        consumer = consumer_of(cluster)
        gateway.start(f"mqtt://127.0.0.1:{link.port}")
        gateway.wait_online()
        client = gateway.publisher()
        producer = Thread(target=client.publish_all, args=(paced(count), 1000), daemon=True)
        producer.start()
        fell = blows(cluster, link, producer)
        cluster.wait_healthy()
        drain(gateway, consumer, link, count)
        tally = Tally(consumer, link.journal, TOPIC, count)
        greetings = [g for g in link.journal.versions() if g.code == 0]
        missed = [f"breach: {breach}" for breach in link.journal.breaches + consumer.breaches]
        if len(client.acknowledged) != count:
            missed.append(f"the gateway acknowledged {len(client.acknowledged)} of {count}")
        if tally.lost:
            missed.append(f"lost {tally.lost[:10]} ...: {len(tally.lost)}")
        if len(fell) < options.seconds / EVERY / 2:
            missed.append(f"only {len(fell)} nodes were killed in {options.seconds} s")
        lines = [
            f"| messages, QoS 1, {RATE} a second | {count:,} | |",
            f"| nodes killed with `kill -9`, every other time the one the bridge is connected to | {len(fell)} in {fell[-1] if fell else 0:.0f} s | every 5 s, and not before the last is back |",
            f"| connections the bridge made | {len(greetings)} | session kept in {sum(g.session_present for g in greetings)} |",
            f"| lost | {len(tally.lost)} | 0 {'holds' if not tally.lost else '**missed**'} |",
            f"| acknowledged by the cluster and gone | {len(tally.broker_lost)} | the cluster's |",
            f"| repeated to the consumer | {tally.doubled} | allowed by QoS 1 |",
        ]
        return lines, missed
    except (AssertionError, OSError, EOFError) as error:
        return [], [f"{error}\n{gateway.log()}"]
    finally:
        gateway.kill()
        if consumer:
            consumer.close()
        link.close()
        cluster.end()


HEAD = """## A cluster whose nodes are killed

Three NATS servers with JetStream, every stream and consumer of MQTT on all three. The gateway knows one address, behind which a proxy leads to a
node that answers, as a load balancer does. A node is killed and started again at once, time after time, while messages come in. The consumer
has a persistent session and connects to another node when its own dies.

| | | bar |
|---|---|---|
"""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("binary", type=Path)
    parser.add_argument("packages", type=Path)
    parser.add_argument("fragment", type=Path)
    parser.add_argument("--seconds", type=int, default=SECONDS)
    options = parser.parse_args()
    options.binary = options.binary.resolve()
    folder = Path(tempfile.mkdtemp(prefix="tidegate-cluster-"))
    try:
        lines, missed = run(options, folder)
    except Missing as why:
        print(f"SKIPPED cluster: {why}")
        summary = "<!-- summary: | a cluster of three whose nodes are killed | lost 0 | nothing | skipped | -->"
        page.write(options.fragment, HEAD.split("\n\n")[0] + f"\n\n{summary}\n**SKIPPED**: {why}.\n")
        return page.SKIPPED
    verdict = "\n".join(f"**missed**: {line}" for line in missed)
    result = "**missed**" if missed else "holds"
    summary = f"<!-- summary: | a cluster of three, a node killed every 5 s for {options.seconds} s, {RATE} messages a second | lost 0 | see the table | {result} | -->"
    page.write(options.fragment, HEAD + "\n".join(lines) + f"\n\n{summary}\n" + (f"\n{verdict}\n" if missed else ""))
    print("\n".join(lines + missed))
    if missed:
        print(f"  what it left: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
