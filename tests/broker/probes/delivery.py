"""What arrives, how often, at which QoS; sessions, retained messages, wills."""

import time

from bench import wire
from probes import Stand, probe
from stand.peer import V5, ack, connect, prop, publish, will

GROUP = "Delivery, sessions, wills"
# A session of MQTT 5 that outlives its connection.
KEPT = prop((0x11, b"\xff\xff\xff\xfe"))


def persistent(stand: Stand, name: str):
    """Connected with a session that stays, which was there or not."""
    client = stand.open()
    client.present = client.connect(name, 0, properties=KEPT if stand.version == V5 else b"")
    return client


def told(messages: list[wire.Publish]) -> str:
    return " ".join(f"{m.payload.decode()}@{m.qos}" + ("r" if m.retain else "") + ("d" if m.dup else "") for m in messages) or "nothing"


@probe(GROUP, "QoS 0, 1, 2 published, by subscriptions at 0, 1, 2: delivered at the lower", "9 of 9")
def lower_of_both(stand: Stand) -> str:
    publisher, right = stand.client("publisher"), 0
    for granted in range(3):
        subscriber = stand.client(f"at-{granted}")
        subscriber.subscribe("q", granted)
        for qos in range(3):
            publisher.publish("q", str(qos), qos)
            right += [m.qos for m in subscriber.take(1)] == [min(qos, granted)]
    return f"{right} of 9"


@probe(GROUP, "QoS 2 published twice under one packet id, over a reconnect: delivered, then the answer to PUBREL", "1, PUBCOMP")
def once(stand: Stand) -> str:
    subscriber, publisher = stand.client("subscriber"), persistent(stand, "publisher")
    subscriber.subscribe("q", 2)
    publisher.send(publish(stand.version, "q", "x", 2, 7))
    publisher.wait(wire.PUBREC)
    publisher.cut()
    publisher = persistent(stand, "publisher")
    publisher.send(publish(stand.version, "q", "x", 2, 7, dup=True))
    publisher.wait(wire.PUBREC)
    publisher.send(ack(wire.PUBREL, 7))
    publisher.wait(wire.PUBCOMP)
    publisher.cut()
    publisher = persistent(stand, "publisher")
    publisher.send(ack(wire.PUBREL, 7))
    found = publisher.wait(wire.PUBCOMP)
    count = len(subscriber.take(1)) + len(subscriber.take(2, 0.3))
    return f"{count}, {'PUBCOMP' if found else 'no PUBCOMP'}"


@probe(GROUP, "QoS 2 on its way to a subscriber that comes back behind its PUBREC: what it gets", "PUBREL, then the next message")
def released(stand: Stand) -> str:
    subscriber, publisher = persistent(stand, "subscriber"), stand.client("publisher")
    subscriber.subscribe("q", 2)
    publisher.publish("q", "1", 2)
    message = wire.publish(subscriber.wait(wire.PUBLISH), stand.version)
    subscriber.send(ack(wire.PUBREC, message.packet_id))
    subscriber.wait(wire.PUBREL)
    subscriber.cut()
    # The largest window there is: a count below zero would show.
    subscriber = stand.open()
    subscriber.connect("subscriber", 0, properties=KEPT + prop((0x21, b"\xff\xff")) if stand.version == V5 else b"")
    first = subscriber.wait(wire.PUBREL, wire.PUBLISH)
    if not first:
        return "nothing"
    if first.kind == wire.PUBLISH:
        return "the message again"
    subscriber.send(ack(wire.PUBCOMP, first.packet_id))
    publisher.publish("q", "2", 2)
    return "PUBREL, then the next message" if told(subscriber.take(1)) == "2@2" else "PUBREL, then nothing"


@probe(GROUP, "PUBREC said twice", "PUBREL, PUBREL")
def pubrec_twice(stand: Stand) -> str:
    client = stand.client("both")
    client.subscribe("q", 2)
    client.publish("q", "x", 2)
    message = wire.publish(client.wait(wire.PUBLISH), stand.version)
    client.send(2 * ack(wire.PUBREC, message.packet_id))
    return client.answer()


@probe(GROUP, "a client that is away while QoS 0, 1, 2 come: what it gets, in which order", "session present, 1@1 2@2")
def away(stand: Stand) -> str:
    client, publisher = persistent(stand, "away"), stand.client("publisher")
    client.subscribe("q", 2)
    client.leave()
    for qos in range(3):
        publisher.publish("q", str(qos), qos)
    client = persistent(stand, "away")
    return ("session present, " if client.present else "no session, ") + told(client.take(3, 0.5))


@probe(GROUP, "unacknowledged at QoS 1 and 2, then a reconnect: what is said again", "1@1d 2@2d, under their packet ids")
def said_again(stand: Stand) -> str:
    client, publisher = persistent(stand, "again"), stand.client("publisher")
    client.subscribe("q", 2)
    for qos in (1, 2):
        publisher.publish("q", str(qos), qos)
    before = [wire.publish(client.wait(wire.PUBLISH), stand.version) for _ in range(2)]
    client.cut()
    client = persistent(stand, "again")
    after = client.take(2)
    same = [m.packet_id for m in before] == [m.packet_id for m in after]
    return told(after) + (", under their packet ids" if same else ", under other packet ids")


@probe(GROUP, "10,000 at QoS 1 to a subscriber that keeps up: delivered", "10,000")
def healthy(stand: Stand) -> str:
    subscriber, publisher = stand.client("subscriber"), stand.client("publisher")
    subscriber.subscribe("q", 1)
    got = 0
    for begin in range(0, 10_000, 20):
        publisher.send(b"".join(publish(stand.version, "q", "x" * 50, 1, number + 1) for number in range(begin, begin + 20)))
        got += len(subscriber.take(20))
        for _ in range(20):
            assert publisher.wait(wire.PUBACK)
    return f"{got:,}"


@probe(GROUP, "1,000 retained messages to one new subscriber at QoS 1: delivered", "1,000")
def thousand_retained(stand: Stand) -> str:
    publisher = stand.client("publisher")
    for number in range(1000):
        publisher.publish(f"r/{number}", "x", 1, number + 1, retain=True)
    subscriber = stand.client("subscriber")
    subscriber.subscribe("r/#", 1)
    return f"{len(subscriber.take(1000)):,}"


@probe(GROUP, "a retained message: to a later subscriber, to one that is there, after an empty one", "kept@1r, kept@1, nothing")
def retained(stand: Stand) -> str:
    there, publisher = stand.client("there"), stand.client("publisher")
    there.subscribe("k", 1)
    publisher.publish("k", "kept", 1, retain=True)
    later = stand.client("later")
    later.subscribe("k", 1)
    first, second = told(later.take(1)), told(there.take(1))
    publisher.publish("k", "", 1, retain=True)
    last = stand.client("last")
    last.subscribe("k", 1)
    return f"{first}, {second}, {told(last.rest())}"


@probe(GROUP, "the will of a connection that breaks, retained: to a subscriber, and to a later one", "gone@1, gone@1r")
def broken(stand: Stand) -> str:
    watcher, client = stand.client("watcher"), stand.open()
    watcher.subscribe("w", 1)
    client.connect("mortal", 0x2E, rest=will(stand.version, "w", "gone"))
    client.cut()
    first = told(watcher.take(1))
    later = stand.client("later")
    later.subscribe("w", 1)
    return f"{first}, {told(later.take(1))}"


@probe(GROUP, "the will of a client that says goodbye", "nothing")
def goodbye(stand: Stand) -> str:
    watcher, client = stand.client("watcher"), stand.open()
    watcher.subscribe("w", 1)
    client.connect("mortal", 0x0E, rest=will(stand.version, "w", "gone"))
    client.leave()
    return told(watcher.rest())


@probe(GROUP, "a second connection with the client id: the first one's will, and whether it is closed", "first@1, closed")
def taken_over(stand: Stand) -> str:
    watcher, first = stand.client("watcher"), stand.open()
    watcher.subscribe("w", 1)
    first.connect("mortal", 0x0E, rest=will(stand.version, "w", "first"))
    second = stand.open()
    second.connect("mortal", 0x0E, rest=will(stand.version, "w", "second"))
    seen = watcher.take(1, 2.0) + watcher.rest()
    return f"{told(seen)}, {'closed' if first.hang_up(2) else 'still open'}"


@probe(GROUP, "silence with a keep alive of 1 s: closed after", "1.5 s")
def silent(stand: Stand) -> str:
    client = stand.open()
    begin = time.monotonic()
    client.connect("silent", 2, keep_alive=1)
    client.hang_up(10)
    seconds = time.monotonic() - begin
    # Ours is to be exact; a broker that looks every few seconds is told as it is.
    return "1.5 s" if 1.4 <= seconds <= 2.0 else f"{seconds:.0f} s" if client.closed else "not within 10 s"


@probe(GROUP, "`#` and `+/x` beside a topic `$internal/x`", "nothing")
def dollar(stand: Stand) -> str:
    client = stand.client("dollar")
    client.subscribe("#")
    client.subscribe("+/x")
    client.publish("$internal/x", "x")
    # The gateway tells its own state below tidegate/, as it would to any client.
    return told([message for message in client.rest() if not message.topic.startswith("tidegate/")])


@probe(GROUP, "subscriptions to `a/#` and `a/b`, at QoS 1 and 2: one message, delivered", "x@2")
def overlapping(stand: Stand) -> str:
    client = stand.client("both")
    client.subscribe("a/#", 1)
    client.subscribe("a/b", 2)
    client.publish("a/b", "x", 2)
    return told(client.take(2, 0.5))


@probe(GROUP, "a topic that begins with ü, beside a neighbour", "x@0, the neighbour is served")
def umlaut(stand: Stand) -> str:
    client = stand.client("umlaut")
    client.subscribe("über/#")
    client.publish("über/x", "x")
    return told(client.take(1)) + neighbour(stand)


@probe(GROUP, "client ids `a/b`, `+`, `#`, `$x`, `$share/a/b`, each twice", "12 welcome, the neighbour is served")
def odd_ids(stand: Stand) -> str:
    welcome = 0
    for name in ["a/b", "+", "#", "$x", "$share/a/b", " "] * 2:
        peer = stand.open()
        peer.send(connect(stand.version, name))
        greeting = peer.wait(wire.CONNACK, timeout=2)
        welcome += greeting is not None and greeting.body[1] == 0
    return f"{welcome} welcome" + neighbour(stand)


@probe(GROUP, "a subscriber that reads nothing while 40 MB come at QoS 0, and leaves", "the publisher waits less than 5 s, the neighbour is served")
def flooded(stand: Stand) -> str:
    stuck, publisher = stand.client("stuck"), stand.client("publisher")
    stuck.subscribe("flood")
    begin = time.monotonic()
    payload = bytes(100_000)
    for _ in range(400):
        publisher.send(publish(stand.version, "flood", payload))
    publisher.settle()
    seconds = time.monotonic() - begin
    stuck.cut()
    return f"the publisher waits {'less than 5 s' if seconds < 5 else f'{seconds:.0f} s'}" + neighbour(stand)


@probe(GROUP, "200 connections that come and break off", "the neighbour is served")
def churn(stand: Stand) -> str:
    for number in range(200):
        peer = stand.open()
        peer.send(connect(stand.version, f"churn-{number % 20}", 0))
        if number % 2:
            peer.wait(wire.CONNACK)
        peer.cut()
    return neighbour(stand).removeprefix(", ")


def neighbour(stand: Stand) -> str:
    try:
        client = stand.client("neighbour")
        client.subscribe("neighbour")
        client.publish("neighbour", "x")
        return ", the neighbour is served" if client.take(1) else ", **the neighbour gets nothing**"
    except (AssertionError, OSError) as error:
        return f", **the neighbour is not served** ({error})"
