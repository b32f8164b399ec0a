"""RS-485 by the port's own driver: it is told when RTS is active and how long it waits, and again after a reload. A driver that cannot do all of it, and
one that knows nothing of it, are told in words, and the port is used all the same."""

from bench.waiting import check, wait_until

# include/uapi/linux/serial.h
ENABLED, ON_SEND, AFTER_SEND = 1, 2, 4

CONFIG = """
[bus.line]
device = "/dev/ttyBench0"
serial = "19200 8E1"
rs485 = { RS485 }

[bus.usb]
device = "usb:0403:6001"
rs485 = { rts = "on-send" }

[bus.uart]
device = "UART"

[[actuator]]
id = "pump"
driver = "uart-write"
bus = "line"
words = { on = "PUMP 1", off = "PUMP 0" }

[[sensor]]
id = "meter"
driver = "uart"
bus = "line"
match = { kv = "=" }

[[sensor]]
id = "air"
driver = "uart"
bus = "usb"
match = { json = true }

[[sensor]]
id = "left"
driver = "uart"
bus = "uart"
match = { json = true }
"""


def scenario(bench):
    gateway, journal, serial = bench.gateway, bench.machine.journal, bench.serial
    config = CONFIG.replace("UART", bench.machine.uart_device)
    mark = bench.machine.mark()
    gateway.start(config.replace("RS485", 'rts = "on-send", delay_before = "2ms", delay_after = "1ms"'))
    switches(bench, mark, (ENABLED | ON_SEND, 2, 1))
    gateway.availability("pump", "online")
    gateway.client.publish("tidegate/box/pump/set", {"id": "1", "value": "on"})
    gateway.client.wait("tidegate/box/pump/ack", '"result":"done"')
    journal.wait("uart tx " + b"PUMP 1\n".hex(), mark)
    # What comes as a port opens may be half a line; so the end of one goes ahead.
    serial.receive(b"\r\nflow=12\r\n")
    check(gateway.reading("meter")["flow"] == 12, "and it is heard")
    gateway.exactly_one(" WARN ", "bus=usb", "does not know RS-485")
    check(not any("bus=line" in line or "bus=uart" in line for line in gateway.log()), "what is as it was told to be is no news")
    wait_until("the adapter to be used", lambda: bench.machine.usb.send('{"t":1}\n') or gateway.client.since(0, "tidegate/box/air"))

    mark = bench.machine.mark()
    gateway.reload(config.replace("RS485", 'rts = "after-send"'))
    switches(bench, mark, (ENABLED | AFTER_SEND, 0, 0))

    # A driver without delays: the kernel takes them out, and says so in its answer alone.
    serial.knows(ENABLED | ON_SEND, delays=False)
    mark, log = bench.machine.mark(), gateway.mark()
    gateway.reload(config.replace("RS485", 'delay_before = "5ms"'))
    gateway.wait_log("WARN .*bus=line.*it took RTS on-send, delays 0 ms and 0 ms", log)
    switches(bench, mark, (ENABLED | ON_SEND, 0, 0))

    # The same kind as the adapter's: what QEMU's 16550 says.
    serial.knows(0, delays=False)
    log = gateway.mark()
    gateway.reload(config.replace("RS485", 'delay_after = "5ms"'))
    gateway.wait_log("WARN .*bus=line.*does not know RS-485", log)
    wait_until("a line", lambda: serial.receive(b"flow=13\r\n") or gateway.client.since(0, "tidegate/box/meter")[-1].json()["flow"] == 13)


def switches(bench, mark, expected):
    """How the driver was told to switch: once, and so."""
    bench.machine.journal.wait(r"uart rs485 0x(\w+) (\d+) (\d+)$", mark)
    told = bench.serial.rs485(mark)
    check(told == [expected], f"the driver was told {told}, not {expected}")
