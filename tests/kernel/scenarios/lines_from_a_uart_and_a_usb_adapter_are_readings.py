"""A line from a 16550 and a line from an FTDI adapter are each heard by a client of the gateway's broker, and at the cloud."""

from bench.waiting import Missed, check, wait_until

CONFIG = """
[bus.uart]
device = "UART"
serial = "115200 8N1"

[bus.usb]
device = "usb:0403:6001"

[[sensor]]
id = "meter"
driver = "uart"
bus = "uart"
match = { kv = "=" }

[[sensor]]
id = "air"
driver = "uart"
bus = "usb"
match = { json = true }
"""


def scenario(bench):
    gateway = bench.gateway
    gateway.start(CONFIG.replace("UART", bench.machine.uart_device) + bench.cloud.bridge())
    cloud = bench.cloud.client.mark()
    # The kernel throws away what comes before a port is open.
    wait_until("both ports to be open", lambda: bench.machine.shell("ls -l /proc/*/fd; true").count("/dev/tty") >= 2)

    meter = heard(gateway, "meter", lambda: bench.machine.uart.send("power=412.5 energy=10251\r\n"))
    check((meter["power"], meter["energy"]) == (412.5, 10251), meter)
    air = heard(gateway, "air", lambda: bench.machine.usb.send('{"temperature":21.5}\n'))
    check(air["temperature"] == 21.5, "the adapter's line")

    above = bench.cloud.client.wait("tidegate/box/meter", mark=cloud)
    check(above.json() == meter, f"at the cloud {above}, below {meter}")
    bench.cloud.client.wait("tidegate/box/air", "21.5", cloud)


def heard(gateway, sensor, say):
    """Its reading. A port that is open may not be set up yet, which throws away what has come: so it is said again."""

    def reading():
        say()
        try:
            return gateway.reading(sensor, timeout=3)
        except Missed:
            return None

    return wait_until(f"a reading of {sensor}", reading)
