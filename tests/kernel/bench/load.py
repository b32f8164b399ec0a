"""Everything that goes through a gateway, at once, with a book of what it owes for it: clients with sessions come and go, others publish, retained
topics change, a serial sensor speaks. What is owed is judged after power cuts."""

import threading
from collections import Counter

from bench.mqtt import PUBLISH, SUBSCRIBE, Stream, publication, string
from bench.sessions import Publisher, Subscriber
from bench.waiting import check, wait_until

SUBSCRIBERS = 50
TOPICS = [f"tidegate/box/load/{number}" for number in range(10)]
RETAINED = [f"tidegate/box/kept/{number}" for number in range(5)]
# Large messages, for commits of many sectors; few clients listen to them, since a machine that is emulated carries little.
LARGE = ["tidegate/box/large/0", "tidegate/box/large/1"]
LARGE_BYTES = 12_000
# Nobody may drop anything: what is dropped is counted, and would be no loss. The head of a config ends in [broker].
CONFIG = """max_queued = 100_000

[bus.uart]
device = "UART"
serial = "115200 8N1"

[[sensor]]
id = "meter"
driver = "uart"
bus = "uart"
match = { kv = "=" }
"""


class Load:
    def __init__(self, bench):
        self._bench = bench
        self.port = bench.machine.mqtt_port
        self.config = CONFIG.replace("UART", bench.machine.uart_device) + bench.cloud.bridge()
        self._arrived = bench.cloud.client.mark()
        topics = LARGE + TOPICS
        self.subscribers = [Subscriber(f"comes-{n}", topics[n % len(topics)], 1 + n // len(topics) % 2) for n in range(SUBSCRIBERS)]
        self.retaining = Publisher("keeps", 1, RETAINED, retain=True)
        self.publishers = [self.retaining]
        for qos in (1, 2):
            self.publishers += [Publisher(f"says-{qos}", qos, TOPICS), Publisher(f"large-{qos}", qos, LARGE, bulk=LARGE_BYTES)]
        self._said = 0
        # What was found in the stores on its way to the cloud, and so was committed.
        self.committed = set()
        self.compared = 0

    def acknowledged(self):
        return [said for publisher in self.publishers for said in publisher.acknowledged]

    def subscribe(self):
        for subscriber in self.subscribers:
            subscriber.subscribe(self.port)

    def until(self, power_is_cut, seed):
        """Goes on until the call has returned; that must have cut the power."""
        ends = threading.Event()
        before = len(self.acknowledged())
        threads = [threading.Thread(target=member.come_and_go, args=(self.port, ends, seed + n)) for n, member in enumerate(self.subscribers)]
        threads += [threading.Thread(target=publisher.publish, args=(self.port, ends)) for publisher in self.publishers]
        threads.append(threading.Thread(target=self._measure, args=(ends,)))
        for thread in threads:
            thread.start()
        try:
            wait_until("load", lambda: len(self.acknowledged()) > before + 2 * Publisher.WINDOW, 90)
            power_is_cut()
        finally:
            ends.set()
            self._bench.machine.end()
            for thread in threads:
                thread.join()

    def _measure(self, ends):
        try:
            while not ends.wait(0.1):
                self._said += 1
                self._bench.machine.uart.send(f"value={self._said}\r\n")
        except OSError:
            return

    # ---- what is owed ----

    def judge_retained(self):
        """Each topic has its last acknowledged text, or a later one that was said."""
        stream = Stream(self.port, "looks")
        stream.patience(1)
        stream.send(SUBSCRIBE, b"\0\1" + string("tidegate/box/kept/+") + bytes([1]))
        found = {}
        try:
            # Nobody publishes now: what comes is what was retained, and then nothing.
            while True:
                first, body = stream.packet()
                if first & 0xF0 == PUBLISH:
                    topic, _, text = publication(first, body)
                    found[topic] = text
        except TimeoutError:
            stream.close()
        for topic in RETAINED:
            allowed = self.retaining.newest(topic)
            has = found.get(topic)
            check(has in allowed, f"{topic} has {has!r} retained, and not {allowed[0]!r} or one of {len(allowed) - 1} said later")
            self.compared += 1

    def finish(self):
        """All that is open is acknowledged, and all that was acknowledged or committed has come to whom it was for."""
        each(self.publishers, lambda publisher: publisher.finish(self.port))
        acknowledged = self.acknowledged()
        each(self.subscribers, lambda subscriber: subscriber.drain(self.port, _texts(acknowledged, subscriber.topic)))
        exactly = tuple(f"{publisher.name} " for publisher in self.publishers if publisher.qos == 2)
        due = 0
        for subscriber in self.subscribers:
            wanted = _texts(acknowledged, subscriber.topic)
            due += len(wanted)
            _judge(subscriber.name, wanted, subscriber.got, exactly if subscriber.qos == 2 else ())
        wait_until("all that was acknowledged at the cloud", lambda: not self.lost_above())
        wait_until("all that was committed at the cloud", lambda: self.committed <= set(self._above()))
        above = [text for topic, text in self._above() if topic in TOPICS + LARGE + RETAINED]
        _judge("the cloud", {text for _, text in acknowledged}, above, exactly, ordered=False)
        gone = sum(member.lost_sessions for member in [*self.subscribers, *self.publishers])
        check(gone == 0, f"{gone} sessions were not there any more")
        return len(acknowledged), due

    def unheard(self, committed):
        """Of what was found committed, what publishers said and have no acknowledgement for."""
        return {said for said in committed if said[0] in TOPICS + LARGE + RETAINED} - set(self.acknowledged())

    def lost_above(self):
        return set(self.acknowledged()) - set(self._above())

    def _above(self):
        return [(message.topic, message.text) for message in self._bench.cloud.client.since(self._arrived)]


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


def _texts(acknowledged, topic):
    return {text for of, text in acknowledged if of == topic}


def _judge(who, wanted, got, exactly, ordered=True):
    missing = sorted(wanted - set(got))
    check(not missing, f"{who} lost {len(missing)}: {[text[:30] for text in missing[:5]]}")
    doubled = [text for text, count in Counter(got).items() if count > 1 and text.startswith(exactly)] if exactly else []
    check(not doubled, f"{who} has {len(doubled)} of QoS 2 twice: {[text[:30] for text in doubled[:5]]}")
    last = {}
    for text in dict.fromkeys(got) if ordered else ():
        name, number = text.split()[:2]
        check(int(number) > last.get(name, -1), f"{who} got {name} {number} after {last.get(name)}")
        last[name] = int(number)
