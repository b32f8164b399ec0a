"""The clock says 2040, as one may whose chip has lost its date; on a 32-bit system the seconds since 1970 then no longer fit into what its C library
counts them in. Readings have that time, a total and what waits for the cloud outlive a restart, and databases whose files are of that year open."""

import re

from bench.pulses import CONFIG as FLOW
from bench.pulses import Pulses
from bench.waiting import check, wait_until

PULSES = 20
# The first of June, in seconds since 1970.
YEAR, IN_IT = "2040-", 2_222_121_600
TOPIC = "tidegate/box/flow"
CONFIG = FLOW + "publish = { qos = 1 }\n"


def scenario(bench):
    away_s = IN_IT - int(bench.machine.shell("date +%s"))
    bench.machine.shell(f"wallclock set {away_s}")
    try:
        play(bench)
    finally:
        bench.machine.ask("run", f"wallclock unset {-away_s}")


def play(bench):
    gateway, cloud = bench.gateway, bench.cloud
    config, arrived = CONFIG + cloud.bridge(), cloud.client.mark()
    cloud.link.swallow()
    gateway.start(config)
    Pulses(bench).some(PULSES)
    below = gateway.reading("flow", f'"count":{PULSES},')
    check(below["ts"].startswith(YEAR) and "tq" not in below, below)
    check(gateway.stop() == 0, "an orderly end, with which everything is written")
    dates = bench.machine.shell(f"stat -c %Y {bench.machine.state}/*.db").split()
    check(len(dates) >= 3 and all(int(date) >= IN_IT for date in dates), f"the databases are of {dates}")

    gateway.start(config)
    check(gateway.reading("flow")["count"] == PULSES, "the total outlives the restart")
    told = [line for line in gateway.log() if re.search(" (INFO|WARN) ", line)]
    check(told and all(line.startswith(YEAR) for line in told), told)
    cloud.link.mend()

    def above():
        return [message for message in cloud.client.since(arrived, TOPIC) if message.json() == below]

    wait_until("the reading of before the restart at the cloud", above)
