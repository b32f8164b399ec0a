"""What MQTT 5 has beyond 3.1.1."""

import time

from bench import wire
from probes import Stand, probe
from probes.delivery import KEPT, told
from stand.peer import V5, ack, prop, publish, subscribe, will

GROUP = "MQTT 5"


def properties_of(found: wire.Packet) -> bytes:
    """The block of a PUBLISH."""
    end = 2 + int.from_bytes(found.body[:2], "big") + (2 if found.first & 6 else 0)
    length, end = wire.variable(found.body, end)
    return found.body[end : end + length]


def offers(greeting: wire.Packet) -> dict[int, int]:
    """The numbers among the properties of a CONNACK."""
    length, at = wire.variable(greeting.body, 2)
    found, end = {}, at + length
    while at < end:
        kind, at = greeting.body[at], at + 1
        size = {0x11: 4, 0x21: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x22: 2, 0x28: 1, 0x29: 1, 0x2A: 1, 0x13: 2}.get(kind)
        if size is None:
            at += 2 + int.from_bytes(greeting.body[at : at + 2], "big")
        else:
            found[kind] = int.from_bytes(greeting.body[at : at + size], "big")
            at += size
    return found


def five(name: str, expected: str):
    return probe(GROUP, name, v5=expected)


@five("Topic Alias Maximum 0, which is legal", "welcome, x@0")
def no_alias(stand: Stand) -> str:
    client = stand.client("plain", properties=prop((0x22, b"\0\0")))
    client.subscribe("t")
    client.publish("t", "x")
    return "welcome, " + told(client.take(1))


@five("Receive Maximum 2 and Maximum Packet Size 30: of a large and three small messages it gets", "1@1 2@1, after an acknowledgement 3@1")
def narrow(stand: Stand) -> str:
    client, publisher = stand.client("small", properties=prop((0x21, b"\0\x02"), (0x27, b"\0\0\0\x1e"))), stand.client("publisher")
    client.subscribe("t", 1)
    for payload in ("x" * 40, "1", "2", "3"):
        publisher.publish("t", payload, 1)
    first = client.rest()
    if len(first) == 0:
        return "nothing"
    client.send(ack(wire.PUBACK, first[0].packet_id))
    return f"{told(first)}, after an acknowledgement {told(client.take(1))}"


@five("more at QoS 2 than the broker's own Receive Maximum", "DISCONNECT 0x93, closes")
def beyond_window(stand: Stand) -> str:
    client = stand.client("wide")
    window = offers(client.greeting).get(0x21, 65_535)
    client.send(b"".join(publish(V5, "t", "", 2, number + 1) for number in range(min(window + 1, 65_535))))
    client.hang_up(3)
    found = [found for found in client.came if found.kind == wire.DISCONNECT]
    return f"DISCONNECT 0x{found[0].body[0]:02x}, closes" if found else "closes" if client.closed else "takes them"


@five("topic aliases both ways", "one@0 two@0, the second by its alias")
def aliases(stand: Stand) -> str:
    client = stand.client("alias", properties=prop((0x22, b"\0\x01")))
    client.subscribe("a/+")
    client.send(publish(V5, "a/1", "one", properties=prop((0x23, b"\0\x05"))) + publish(V5, "", "two", properties=prop((0x23, b"\0\x05"))))
    messages = client.take(2, 2)
    by_alias = len(messages) == 2 and not messages[1].topic and messages[1].alias
    return told(messages) + (", the second by its alias" if by_alias else "")


@five("a subscription identifier, with retain handling 1 at its renewal", "kept@0r with 7, at its renewal nothing")
def identifier(stand: Stand) -> str:
    client = stand.client("id")
    client.publish("t", "kept", retain=True)
    client.subscribe("t", 0, prop((0x0B, b"\x07")))
    found = client.wait(wire.PUBLISH, timeout=2)
    first = "nothing" if not found else told([wire.publish(found, V5)]) + (" with 7" if b"\x0b\x07" in properties_of(found) else "")
    client.subscribe("t", 0x10, prop((0x0B, b"\x07")))
    return f"{first}, at its renewal {told(client.rest())}"


@five("no-local, and retain as published", "nothing; kept@0r")
def no_local(stand: Stand) -> str:
    client, other = stand.client("local"), stand.client("other")
    client.subscribe("t", 0x04)
    client.publish("t", "own")
    own = told(client.rest())
    client.subscribe("t", 0x08)
    other.publish("t", "kept", retain=True)
    return f"{own}; {told(client.take(1))}"


@five("content type, response topic, correlation data, format and user properties of a message", "all pass, user properties in their order")
def carried(stand: Stand) -> str:
    client = stand.client("carry")
    client.subscribe("t")
    users = [(0x26, wire.text("k") + wire.text("1")), (0x26, wire.text("k") + wire.text("2")), (0x26, wire.text("a") + wire.text("3"))]
    others = [(0x03, wire.text("text/plain")), (0x08, wire.text("back")), (0x09, wire.text("42")), (0x01, b"\x01")]
    client.publish("t", "x", properties=prop(*others, *users))
    found = client.wait(wire.PUBLISH)
    inside = properties_of(found)
    passed = sum(prop(each) in inside for each in others)
    order = prop(*users) in inside
    return ("all pass" if passed == len(others) else f"{passed} of {len(others)} pass") + (", user properties in their order" if order else "")


@five("a message that expires in 1 s, to a client that is away 2 s; and one in 100 s", "y@1, with 98 s left")
def expiry(stand: Stand) -> str:
    client, publisher = stand.open(), stand.client("publisher")
    client.connect("away", 0, properties=KEPT)
    client.subscribe("t", 1)
    client.leave()
    publisher.publish("t", "x", 1, properties=prop((0x02, b"\0\0\0\x01")))
    publisher.publish("t", "y", 1, properties=prop((0x02, b"\0\0\0\x64")))
    time.sleep(2.1)  # what is to pass is time
    client = stand.open()
    client.connect("away", 0, properties=KEPT)
    found = client.wait(wire.PUBLISH, timeout=2)
    if not found:
        return "nothing"
    inside = properties_of(found)
    left = int.from_bytes(inside[inside.index(b"\x02") + 1 :][:4], "big") if b"\x02" in inside else 0
    return f"{told([wire.publish(found, V5)])}, with {98 if left in (97, 98) else left} s left"


@five("a session that expires in 1 s, after 2 s; and one in 100 s", "gone; present")
def session_expiry(stand: Stand) -> str:
    answers = []
    for seconds in (1, 100):
        client = stand.open()
        client.connect(f"expires-{seconds}", 0, properties=prop((0x11, seconds.to_bytes(4, "big"))))
        client.leave()
    time.sleep(2.5)  # what is to pass is time
    for seconds in (1, 100):
        client = stand.open()
        answers.append("present" if client.connect(f"expires-{seconds}", 0, properties=KEPT) else "gone")
    return "; ".join(answers)


@five("a will with a delay of 1 s: within 0.5 s, and within 3 s; of a client that is back in time", "nothing, gone@0; nothing")
def will_delay(stand: Stand) -> str:
    watcher = stand.client("watcher")
    watcher.subscribe("w")

    def break_off(name: str):
        client = stand.open()
        client.connect(name, 0x04, properties=KEPT, rest=will(V5, "w", "gone", prop((0x18, b"\0\0\0\x01"))))
        client.cut()

    break_off("mortal")
    early, late = told(watcher.take(1, 0.5)), told(watcher.take(1, 3))
    break_off("back")
    stand.client("back", 0, properties=KEPT)
    return f"{early}, {late}; {told(watcher.take(1, 1.6))}"


@five("DISCONNECT 0x04, which asks for the will", "gone@0")
def with_will(stand: Stand) -> str:
    watcher = stand.client("watcher")
    watcher.subscribe("w")
    client = stand.client("mortal", 6, rest=will(V5, "w", "gone"))
    client.send(b"\xe0\x01\x04")
    return told(watcher.take(1, 3))


@five("a takeover: what the first connection is told", "DISCONNECT 0x8e, closes")
def taken_over(stand: Stand) -> str:
    first = stand.client("twice")
    stand.client("twice")
    first.hang_up(3)
    return first.answer()


@five("100 messages by `$share/g/t` to two members", "100 in all, both have some")
def shared(stand: Stand) -> str:
    members, publisher = [stand.client(f"member-{n}") for n in range(2)], stand.client("publisher")
    for member in members:
        member.subscribe("$share/g/t", 1)
    for number in range(100):
        publisher.publish("t", str(number), 1)
    counts = [len(member.take(100, 0.5)) for member in members]
    return f"{sum(counts)} in all" + (", both have some" if all(counts) else "")


@five("a member of `$share/g/t` that ends with 5 unacknowledged: the other one gets", "all 5, the neighbour is served")
def redispatch(stand: Stand) -> str:
    publisher, leaves = stand.client("publisher"), stand.client("leaves")
    leaves.subscribe("$share/g/t", 1)
    for number in range(5):
        publisher.publish("t", str(number), 1)
    assert len(leaves.rest()) == 5
    stays = stand.client("stays")
    stays.subscribe("$share/g/t", 1)
    leaves.cut()
    got = {m.payload for m in stays.take(5, 3)}
    client = stand.client("neighbour")
    client.subscribe("neighbour")
    client.publish("neighbour", "x")
    return f"{'all 5' if len(got) == 5 else len(got)}, the neighbour {'is served' if client.take(1) else 'gets nothing'}"


@five("no-local for a shared subscription, which is an error", "DISCONNECT 0x82, closes")
def shared_no_local(stand: Stand) -> str:
    client = stand.client("shared")
    client.send(subscribe(V5, 1, "$share/g/t", 0x05))
    return client.answer()


@five("publishing where nobody subscribes: the answer, which may say so", "PUBACK")
def nobody(stand: Stand) -> str:
    client = stand.client("alone")
    client.send(publish(V5, "nobody/here", "x", 1))
    return client.answer()
