"""Messages that the gateway acknowledged while the cloud was away reach it, though the power was cut while more were being written.

The guest's memory is lost, and of the disk's cache what was not flushed: all, or each sector by a coin. A file that nobody flushed shows it.
"""

import threading
import time

from bench.waiting import check, wait_until

VARIANTS = ("the disk's cache is lost", "the disk's cache is torn")
TOPIC = "tidegate/box/numbers"
IN_FLIGHT = 20
WRITING_S = 3


def scenario(bench, variant):
    gateway, machine, cloud = bench.gateway, bench.machine, bench.cloud
    config = cloud.bridge()
    arrived = cloud.client.mark()
    cloud.link.swallow()
    gateway.start(config)
    machine.shell("echo here >/data/flushed && sync && echo here >/data/not-flushed")

    client = gateway.client
    publisher = threading.Thread(target=publish, args=(client,), daemon=True)
    publisher.start()
    time.sleep(WRITING_S)
    unflushed = machine.cut_power("nothing" if "lost" in variant else "some", seed=1)
    publisher.join()
    acknowledged = set(client.acknowledged)
    gateway.forget()
    check(len(acknowledged) > 2 * IN_FLIGHT, f"only {len(acknowledged)} were acknowledged")

    machine.boot()
    check(machine.shell("cat /data/flushed") == "here", "what was flushed is there")
    if "lost" in variant:
        check(machine.ask("run", "cat /data/not-flushed")[1] != "here", "what nobody flushed is there: this was no power cut")
    cloud.link.mend()
    gateway.start(config)

    def missing():
        return acknowledged - {message.text for message in cloud.client.since(arrived, TOPIC)}

    wait_until("all that was acknowledged at the cloud", lambda: not missing())
    bench.note(f"{len(acknowledged)} acknowledged, 0 lost; {unflushed} sectors were not flushed")


def publish(client):
    """Numbers, until the connection is gone with the power."""
    number = 0
    try:
        while True:
            client.publish_and_hear(TOPIC, str(number), IN_FLIGHT)
            number += 1
    except (OSError, EOFError):
        pass
