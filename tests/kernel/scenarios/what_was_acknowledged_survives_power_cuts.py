"""Under everything at once the power is cut, again and again, inside a write or behind a flush. Of what the gateway acknowledged or had committed nothing is lost,
here and at the cloud; nothing of QoS 2 comes twice; the stores are sound; what is retained is the last acknowledged or a later one; a counter is
behind by no more than a minute's pulses.

By turns the cloud is a black hole, so that all of it waits, and there, so that it goes. Of the disk's cache all is lost, or each
sector by a coin; or nothing, and the gateway never heard that its commit was flushed: what it has then, its publishers say again.
The controls are the same gateway with the flushes of SQLite's weaker settings: they have to lose, or a cut would show nothing.
"""

import os
import random
import time

from bench import pulses
from bench.load import Load
from bench.sessions import Publisher
from bench.stores import DAMAGED, read
from bench.waiting import check

AS_IT_IS, CONTROL_NORMAL, CONTROL_OFF = "as it is", "control: synchronous = NORMAL", "control: synchronous = OFF"
VARIANTS = (AS_IT_IS, CONTROL_NORMAL, CONTROL_OFF)
CUTS = int(os.environ.get("TIDEGATE_POWER_CUTS", "3"))
# What becomes of the disk's cache; the first three cuts take each of them once, so that the shortest run has all.
KEEP = ("some", "nothing", "flushed")
SEED = int(os.environ.get("TIDEGATE_POWER_SEED", "1"))
# A total is written once a minute: every so many cuts one falls after that.
MINUTE_EVERY = 10
SECTORS_MAX = 400


def why_not(kind):
    return "its system, which has no disk to keep, would have to be installed anew after each cut" if kind.systemd else None


def scenario(bench, variant):
    if variant == AS_IT_IS:
        as_it_is(bench)
    else:
        control(bench, variant.split()[-1])


def as_it_is(bench):
    gateway, machine, link = bench.gateway, bench.machine, bench.cloud.link
    load, counter = Load(bench), pulses.Pulses(bench)
    config = load.config + pulses.CONFIG
    # Of the cuts that take something, how many sectors; of the others, how many left something committed that was acknowledged to nobody.
    sectors, unheard, stores = [], [], 0
    gateway.start(config)
    load.subscribe()
    # A total is written at the end, too.
    counter.some(40)
    gateway.stop()
    gateway.start(config)
    check(counter.told() == 40, "the total outlives a restart")
    for number in range(CUTS):
        chance = random.Random(f"{SEED} {number}")
        if number % 2:
            link.mend()
        else:
            link.swallow()
        counter.begin()
        if number % MINUTE_EVERY == MINUTE_EVERY - 1:
            counter.run_for(66)
        keep, unflushed = cut(load, machine, chance, number)
        counter.at_the_cut()
        gateway.forget()

        found, waiting = read(machine)
        stores += found
        load.committed |= waiting
        if keep == "flushed":
            unheard.append(len(load.unheard(waiting)))
        else:
            sectors.append(unflushed)
        machine.boot()
        gateway.start(config)
        counter.judge()
        load.judge_retained()
        told = [line for line in gateway.log() if DAMAGED.search(line)]
        check(not told, f"a store was damaged: {told}")
    link.mend()
    acknowledged, due = load.finish()
    full = [count for count in sectors if count]
    check(2 * len(full) > len(sectors), f"only {len(full)} of {len(sectors)} cuts took anything that was not flushed")
    bench.note(f"seed {SEED}: {len(full)} of {len(sectors)} cuts with sectors not flushed, {sum(sectors)} in all, {max(sectors)} at most")
    told = f"{sum(map(bool, unheard))} of {len(unheard)} cuts behind a flush left something committed that was acknowledged to nobody, {sum(unheard)} messages in all"
    check(any(unheard) or CUTS < 10, told)
    bench.note(told)
    bench.note(f"{acknowledged} acknowledged and {due} deliveries of them due here: lost 0, QoS 2 doubled 0, here and at the cloud")
    readings = sum(topic.endswith(("/meter", "/flow")) for topic, _ in load.committed)
    bench.note(f"{len(load.committed)} records found waiting after the cuts, {readings} of them readings: all at the cloud")
    bench.note(f"{stores} stores read through, all sound")
    bench.note(f"{load.compared} retained messages compared: none older than its acknowledgement; the counter behind by {counter.lag} pulses at most")


def cut(load, machine, chance, number):
    """Under load, at a moment and in a way that chance decides: in which, and how many sectors were not flushed."""
    pause, keep, seed, sectors = chance.uniform(0.2, 3), chance.choice(KEEP), chance.random(), chance.randint(1, SECTORS_MAX)
    if number < len(KEEP):
        keep = KEEP[number]
    unflushed = []

    def power():
        time.sleep(pause)  # what passes is the load's time
        unflushed.append(machine.cut_power_in_a_write(keep, seed, sectors))

    load.until(power, chance.randrange(1 << 30))
    return keep, unflushed[0]


def control(bench, setting):
    gateway, machine, cloud = bench.gateway, bench.machine, bench.cloud
    load = Load(bench)
    cloud.link.swallow()
    gateway.start(load.config, f"LD_PRELOAD=/lib/unsynced.so UNSYNCED={setting}")
    load.subscribe()
    load.until(machine.cut_power, SEED)
    gateway.forget()
    machine.boot()
    cloud.link.mend()
    gateway.start(load.config)
    for publisher in load.publishers:
        publisher.finish(load.port)
    # Behind everything that waited: what is not there when this is, will never be.
    last = Publisher("ends", 2, ["tidegate/box/end"])
    last.finish(load.port, more=1)
    cloud.client.wait("tidegate/box/end", timeout=120)
    lost = load.lost_above()
    check(lost, f"with synchronous = {setting} nothing was lost of {len(load.acknowledged())}: this was no power cut")
    bench.note(f"{len(lost)} of {len(load.acknowledged())} acknowledged messages lost, as it must be")
