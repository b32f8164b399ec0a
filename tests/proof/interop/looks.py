"""What each broker does with one thing at a time. A look returns the words of its cell, and raises where the bridge falls short."""

from bench import wire
from bench.client import Client, Refused
from bench.gateway import STATUS, Gateway
from bench.journal import Journal
from bench.link import Link
from bench.stage import Stage
from bench.waiting import Missed, holds_within, wait_until

VERSIONS = {3: "3.1", 4: "3.1.1", 5: "5"}
# What a broker may do or not is waited for this long.
MAY = 3.0


def check(holds: object, what: str) -> None:
    if not holds:
        raise Missed(what)


def online(stage: Stage) -> tuple[Link, Gateway]:
    """A new gateway that is online by a new link."""
    link, gateway = stage.link(), stage.gateway()
    gateway.start(f"mqtt://127.0.0.1:{link.port}")
    gateway.wait_online()
    return link, gateway


def watcher(stage: Stage, *filters: str, qos: int = 1) -> Client:
    client = stage.cloud()
    for topic_filter in filters:
        client.subscribe(topic_filter, qos)
    return client


def greetings(journal: Journal) -> str:
    """How the version was come to, in words."""
    words = []
    for greeting in journal.versions():
        answer = "closed" if greeting.code is None else "accepted" if greeting.code == 0 else f"refused with 0x{greeting.code:02x}"
        word = f"{VERSIONS.get(greeting.version, greeting.version)} {answer}"
        if not words or words[-1] != word:
            words.append(word)
    return ", then ".join(words)


def connect(stage: Stage) -> str:
    link, _ = online(stage)
    return greetings(link.journal)


def qos_1(stage: Stage) -> str:
    cloud = watcher(stage, "up/#")
    link, gateway = online(stage)
    gateway.publisher().publish("up/one", "1", qos=1)
    cloud.wait("up/one", "1")
    wait_until("the acknowledgement on the wire", lambda: 1 in link.journal.answers)
    return link.journal.answers[1]


def qos_2(stage: Stage) -> str:
    """Whatever a broker makes of QoS 2, what comes behind must not wait for ever."""
    cloud = watcher(stage, "up/#", qos=2)
    link, gateway = online(stage)
    producer = gateway.publisher()
    producer.publish("up/two", "2", qos=2)
    producer.publish("up/behind", "3", qos=1)
    cloud.wait("up/two", "2")
    cloud.wait("up/behind", "3")
    wait_until("the acknowledgements on the wire", lambda: {("up/two", b"2"), ("up/behind", b"3")} <= link.journal.acknowledged.keys())
    # And it is over with that: nothing is said again on the next connection.
    times = link.journal.sent["up/two", b"2"]
    link.cut_all()
    producer.publish("up/last", "4", qos=1)
    cloud.wait("up/last", "4")
    check(link.journal.sent["up/two", b"2"] == times, "a QoS 2 message was sent again after the broker's last word on it")
    if link.journal.acknowledged["up/two", b"2"] == 1:
        return "closes: gets QoS 1 after three times" if 2 in link.journal.closed_on else "says that it has none: gets QoS 1"
    answer = link.journal.answers[2]
    return "PUBREC: taken" if answer == "PUBREC" else f"{answer}: takes it as QoS 1"


def retained(stage: Stage, topic: str) -> list[wire.Publish]:
    """What a new subscriber gets at once."""
    client = stage.cloud()
    client.subscribe(topic)
    client.ping()
    holds_within(lambda: client.heard(topic), MAY)
    client.close()
    return client.heard(topic)


def retain(stage: Stage) -> str:
    _, gateway = online(stage)
    producer = gateway.publisher()
    watch = watcher(stage, "up/#")
    producer.publish("up/kept", "still here", retain=True)
    watch.wait("up/kept", "still here")
    found = retained(stage, "up/kept")
    if not found:
        return "not kept"
    check(found[0].retain and found[0].payload == b"still here", f"a new subscriber got {found}")
    producer.publish("up/kept", "", retain=True)
    watch.wait("up/kept", "")
    cleared = not retained(stage, "up/kept")
    return "kept, cleared by an empty payload" if cleared else "kept, **not cleared** by an empty payload"


def will(stage: Stage) -> str:
    watch = watcher(stage, STATUS)
    _, gateway = online(stage)
    watch.wait(STATUS, "online")
    gateway.kill()
    watch.wait(STATUS, "offline", timeout=20)
    kept = any(m.payload == b"offline" for m in retained(stage, STATUS))
    return "told after `kill -9`, " + ("retained" if kept else "not retained")


def session(stage: Stage) -> str:
    """Over a kill of the gateway: the session, and a command that came meanwhile."""
    link, gateway = online(stage)
    # The subscription is there once a command has come down.
    cloud = watcher(stage, STATUS)
    cloud.publish("down/first", "1")
    gateway.client.wait("local/first", "1")
    gateway.kill()
    cloud.wait(STATUS, "offline")  # the broker knows that it is gone
    cloud.publish("down/meanwhile", "2")
    link.away = True  # until somebody listens at the local broker
    gateway.start(f"mqtt://127.0.0.1:{link.port}")
    link.away = False
    gateway.wait_online()
    present = link.journal.versions()[-1].session_present
    came = holds_within(lambda: gateway.client.heard("local/meanwhile", "2"), MAY)
    return ("kept" if present else "**not kept**") + (", a command of meanwhile came down" if came else ", a command of meanwhile did not come down")


def restart(stage: Stage) -> str:
    """Commands come down again after the broker's restart, whatever it remembers; and what of the session and retained it did keep."""
    link, gateway = online(stage)
    cloud = watcher(stage, "up/#")
    gateway.publisher().publish("up/before", "kept", retain=True)
    cloud.wait("up/before", "kept")
    cloud.publish("down/before", "1")
    gateway.client.wait("local/before", "1")
    # As in daily life: a session that was resumed before. Mosquitto 2.0 writes none down that began with Clean Start.
    resumed = len(link.journal.versions())
    link.cut_all()
    wait_until("the bridge to be back", lambda: len(link.journal.versions()) > resumed)
    gateway.wait_online()
    greeted = len(link.journal.versions())
    stage.broker.stop()
    stage.broker.start()
    wait_until("the bridge to be back", lambda: any(g.code == 0 for g in link.journal.versions()[greeted:]))
    present = [g for g in link.journal.versions()[greeted:] if g.code == 0][-1].session_present
    cloud = stage.cloud()

    def command_came() -> bool:
        cloud.publish("down/after", "2")
        return holds_within(lambda: gateway.client.heard("local/after", "2"), 0.5)

    wait_until("a command after the broker's restart", command_came)
    kept = bool(retained(stage, "up/before"))
    return f"commands come down again; session {'kept' if present else 'lost'}, retained {'kept' if kept else 'lost'} by the broker"


def tls(stage: Stage) -> str:
    stage.broker.start_with_tls()
    try:
        return over_tls(stage)
    finally:
        stage.broker.stop()
        stage.broker.start()


def over_tls(stage: Stage) -> str:
    link, gateway = stage.link(tls=True), stage.gateway()
    url = f"mqtts://localhost:{link.port}"
    gateway.start(url, ca=stage.certificates.other_ca)
    reason = gateway.wait_reason()
    check("certificate" in reason or "unknown" in reason.lower(), f"with another root the reason is: {reason}")
    gateway.kill()
    gateway.start(url, ca=stage.certificates.ca)
    gateway.wait_online()
    context = stage.client_context()
    cloud = Client(stage.broker.tls_port, "tls-looker", stage.login, tls=context)
    cloud.subscribe("up/#")
    gateway.publisher().publish("up/sealed", "1")
    cloud.wait("up/sealed", "1")
    return "delivers; another root is refused"


def probe(stage: Stage, topic: str, payload: bytes) -> bool:
    """Whether it takes this of a plain client and gives it to another."""
    hearer = watcher(stage, "odd/#", "/odd/#")
    try:
        stage.cloud().publish(topic, payload)
        return holds_within(lambda: any(m.topic == topic and m.payload == payload for m in hearer.messages), MAY)
    except (OSError, EOFError, Refused, Missed):
        return False
    finally:
        hearer.close()


def odd_topics(stage: Stage) -> str:
    topics = {"`a.b`": "odd/a.b", "a space": "odd/a b", "UTF-8": "odd/é", "an empty level": "odd//x", "a leading slash": "/odd/x", "`$` inside": "odd/$x"}
    refused = [name for name, topic in topics.items() if not probe(stage, topic, b"x")]
    return "all taken" if not refused else "not taken: " + ", ".join(refused)


def largest(stage: Stage) -> str:
    """Which of these sizes it takes as it comes."""
    sizes = {"64 KiB": 64 << 10, "256 KiB": 256 << 10, "1 MiB": 1 << 20, "4 MiB": 4 << 20}
    taken = "none of those tried"
    for name, size in sizes.items():
        if not probe(stage, "odd/large", b"x" * (size - 100)):
            return f"up to {taken}, not {name}"
        taken = name
    return f"{taken} and more"


ROWS = [
    ("connect", connect),
    ("QoS 1", qos_1),
    ("QoS 2", qos_2),
    ("retain", retain),
    ("will", will),
    ("session over `kill -9` of the gateway", session),
    ("its own restart", restart),
    ("TLS", tls),
    ("odd topics", odd_topics),
    ("payload", largest),
]
