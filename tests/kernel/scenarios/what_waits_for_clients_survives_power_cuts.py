"""Fifty clients of QoS 1 and 2 with sessions come and go, four publish, and the power is cut in the middle of it, again and again. What was acknowledged
reaches each of them, and the cloud: nothing lost, nothing of QoS 2 twice, each publisher's in its order.

Of the disk's cache what was not flushed is lost: all, or each sector by a coin.
"""

import os
import threading
import time
from collections import Counter

from bench.sessions import Publisher, Subscriber
from bench.waiting import check, wait_until

VARIANTS = ("the disk's cache is lost", "the disk's cache is torn")
CUTS = int(os.environ.get("TIDEGATE_POWER_CUTS", "2"))
SUBSCRIBERS = 50
TOPICS = [f"tidegate/box/load/{number}" for number in range(10)]
WRITING_S = 4
# The head of a config ends in [broker]. Nobody may drop anything: what is dropped is counted, and would be no loss.
CONFIG = "max_queued = 100_000\n"


def scenario(bench, variant):
    config = CONFIG + bench.cloud.bridge()
    arrived = bench.cloud.client.mark()
    port = bench.machine.mqtt_port
    subscribers = [Subscriber(f"comes-{n}", TOPICS[n % len(TOPICS)], 1 + n // 10 % 2) for n in range(SUBSCRIBERS)]
    publishers = [Publisher(f"says-{n}", 1 + n % 2, TOPICS) for n in range(4)]
    unflushed = 0
    bench.gateway.start(config)
    for subscriber in subscribers:
        subscriber.subscribe(port)
    for cut in range(CUTS):
        unflushed += one_cut(bench, subscribers, publishers, "nothing" if "lost" in variant else "some", cut)
        bench.machine.boot()
        bench.gateway.start(config)
    each(publishers, lambda publisher: publisher.finish(port))

    acknowledged = [said for publisher in publishers for said in publisher.acknowledged]
    check(len(acknowledged) > CUTS * 4 * Publisher.WINDOW, f"only {len(acknowledged)} were acknowledged")
    each(subscribers, lambda subscriber: subscriber.drain(port, texts(acknowledged, subscriber.topic)))
    exactly = {f"{publisher.name} " for publisher in publishers if publisher.qos == 2}
    due = 0
    for subscriber in subscribers:
        wanted = texts(acknowledged, subscriber.topic)
        due += len(wanted)
        judge(subscriber.name, wanted, subscriber.got, exactly if subscriber.qos == 2 else ())

    def above():
        return [message.text for message in bench.cloud.client.since(arrived) if message.topic in TOPICS]

    everything = {text for _, text in acknowledged}
    wait_until("all that was acknowledged at the cloud", lambda: everything <= set(above()))
    judge("the cloud", everything, above(), exactly, ordered=False)
    gone = sum(member.lost_sessions for member in [*subscribers, *publishers])
    check(gone == 0, f"{gone} sessions were not there any more")
    bench.note(f"{CUTS} cuts, {unflushed} sectors not flushed: {len(acknowledged)} acknowledged, {due} deliveries due, lost 0, QoS 2 doubled 0, here and at the cloud")


def one_cut(bench, subscribers, publishers, keep, cut):
    """Load until the power is gone; the sectors that were not flushed."""
    ends, port = threading.Event(), bench.machine.mqtt_port
    before = sum(len(publisher.acknowledged) for publisher in publishers)
    threads = [threading.Thread(target=member.come_and_go, args=(port, ends, cut * SUBSCRIBERS + n)) for n, member in enumerate(subscribers)]
    threads += [threading.Thread(target=publisher.publish, args=(port, ends)) for publisher in publishers]
    for thread in threads:
        thread.start()
    try:
        wait_until("load", lambda: sum(len(publisher.acknowledged) for publisher in publishers) > before + 4 * Publisher.WINDOW)
        time.sleep(WRITING_S)  # what passes is the load's time
    finally:
        unflushed = bench.machine.cut_power(keep, seed=cut + 1)
        ends.set()
        for thread in threads:
            thread.join()
    bench.gateway.forget()
    return unflushed


def each(members, do):
    """All at once, and the first failure of any."""
    failures = []

    def one(member):
        try:
            do(member)
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=one, args=(member,)) for member in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def texts(acknowledged, topic):
    return {text for of, text in acknowledged if of == topic}


def judge(who, wanted, got, exactly, ordered=True):
    missing = sorted(wanted - set(got))
    check(not missing, f"{who} lost {len(missing)}: {missing[:5]}")
    doubled = [text for text, count in Counter(got).items() if count > 1 and text.startswith(tuple(exactly))] if exactly else []
    check(not doubled, f"{who} has {len(doubled)} of QoS 2 twice: {doubled[:5]}")
    last = {}
    for text in dict.fromkeys(got) if ordered else ():
        name, number = text.split()
        check(int(number) > last.get(name, -1), f"{who} got {text} after {name} {last.get(name)}")
        last[name] = int(number)
