"""Numbered messages over a link that is cut and a broker that is restarted, to a consumer that is there all the time.

The store is filled while the cloud is away, so that every blow falls into the drain; that each did is asserted."""

from bench.consumer import Consumer
from bench.gateway import Gateway
from bench.journal import Journal
from bench.link import Link
from bench.stage import Stage
from bench.waiting import Missed, wait_until

MESSAGES = 2000
CUTS = 5
# A drain that stands still this long has ended.
STANDSTILL = 10.0


class Tally:
    """One topic's messages, told apart by whose they are."""

    def __init__(self, consumer: Consumer, journal: Journal, topic: str, count: int) -> None:
        got = consumer.numbers(topic)
        missing = [number for number in range(1, count + 1) if number not in got]
        keys = {number: (topic, str(number).encode()) for number in missing}
        # The broker said that it has it, and it is not there: that is its loss.
        self.broker_lost = [number for number in missing if keys[number] in journal.acknowledged]
        self.lost = [number for number in missing if keys[number] not in journal.acknowledged]
        self.doubled = sum(times - 1 for times in got.values())
        self.arrived = len(got)


STREAMS = {"up/once": 1, "up/exact": 2}


def run(stage: Stage) -> None:
    """Fills the rows of the campaign."""
    streams = STREAMS
    total = MESSAGES * len(streams)
    consumer = Consumer(stage.broker.port, stage.login, "up/#", max(streams.values()))
    link, gateway = stage.link(), stage.gateway()
    try:
        fill(link, gateway, streams)
        at = [total * blow // (CUTS + 2) for blow in range(1, CUTS + 2)]
        cuts, hold = at[:CUTS], at[CUTS]
        link.plan(in_publish=set(cuts[0::2]), in_answer=set(cuts[1::2]), hold_at=hold)
        link.away = False
        restarted = restart_when_held(stage, link, gateway, consumer)
        drain(link, gateway, consumer, streams)
        report(stage, link, gateway, consumer, streams, restarted)
    finally:
        consumer.close()


def fill(link: Link, gateway: Gateway, streams: dict[str, int]) -> None:
    link.away = True
    gateway.start(f"mqtt://127.0.0.1:{link.port}")
    producer = gateway.publisher()
    producer.publish_all((topic, str(number), qos) for number in range(1, MESSAGES + 1) for topic, qos in streams.items())
    wanted = MESSAGES * len(streams)
    if len(producer.acknowledged) != wanted:
        raise Missed(f"the gateway acknowledged {len(producer.acknowledged)} of {wanted}")
    producer.close()


def restart_when_held(stage: Stage, link: Link, gateway: Gateway, consumer: Consumer) -> dict[str, int]:
    """The broker is restarted while a message is half way; the gateway is let back in once the consumer is."""
    waited = 0.0
    while not link.held.wait(1):
        waited += 1
        if waited > 120:
            raise Missed(f"the drain did not come to the broker's restart: {progress(link, gateway, consumer)}")
    link.away = True
    before = consumer.connections
    stage.broker.stop()
    stage.broker.start()
    wait_until("the consumer to be back", lambda: consumer.connections > before and consumer.connected)
    greeted = len(link.journal.versions())
    link.away = False
    link.release()
    link.cut_all()
    return {"greeted": greeted, "before": before}


def progress(link: Link, gateway: Gateway, consumer: Consumer) -> str:
    return f"{len(consumer.messages())} arrived, {link.journal.distinct()} sent, {link.cuts} cuts, the bridge says {gateway.state()}"


def drain(link: Link, gateway: Gateway, consumer: Consumer, streams: dict[str, int]) -> None:
    """Until everything is there, or everything is acknowledged and nothing more comes."""
    wanted = MESSAGES * len(streams)

    def arrived() -> int:
        return sum(len(consumer.numbers(topic)) for topic in streams)

    while (before := (arrived(), len(link.journal.acknowledged))) and before[0] < wanted:
        try:
            wait_until("progress", lambda: (arrived(), len(link.journal.acknowledged)) != before or arrived() == wanted, STANDSTILL, 0.2)
        except Missed:
            break
    wait_until(f"an empty store ({progress(link, gateway, consumer)})", lambda: gateway.state().get("queued") == 0, 30)


def report(stage: Stage, link: Link, gateway: Gateway, consumer: Consumer, streams: dict[str, int], restarted: dict[str, int]) -> None:
    cells, failures, journal = stage.outcome.cells, stage.outcome.failures, link.journal
    lost_sessions = [g for g in journal.versions()[restarted["greeted"] :] if g.code == 0 and not g.session_present]
    if link.planned() or link.cuts < CUTS:
        failures.append(f"{link.planned()} of the blows did not fall ({link.cuts} cuts)")
    for breach in journal.breaches + consumer.breaches:
        failures.append(f"breach: {breach}")
    for topic, qos in streams.items():
        tally = Tally(consumer, journal, topic, MESSAGES)
        row = f"{MESSAGES:,} of QoS {qos}, {CUTS} cuts, 1 restart"
        words = [f"lost {len(tally.lost)}"]
        if tally.lost:
            failures.append(f"{row}: lost {tally.lost[:10]}; {progress(link, gateway, consumer)}")
        if tally.broker_lost:
            words.append(f"**{len(tally.broker_lost)} acknowledged by the broker and gone with its restart**")
        if qos == 2:
            words.append(f"doubled {tally.doubled}")
            if consumer.granted < 2:
                words[-1] = f"repeated {tally.doubled} (it delivers at QoS 1)"
            elif tally.doubled and lost_sessions:
                words[-1] += " (it forgot the session)"
            elif tally.doubled:
                failures.append(f"{row}: {tally.doubled} doubled")
        else:
            words.append(f"repeated {tally.doubled}")
        cells[row] = ", ".join(words)
    if consumer.sessions_lost:
        stage.outcome.notes.append("it forgets persistent sessions when it restarts")
    if not lost_sessions:
        return
    stage.outcome.notes.append("the bridge met a lost session and sent again what was in flight")
