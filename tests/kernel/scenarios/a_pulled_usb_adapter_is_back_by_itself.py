"""A USB adapter that is pulled and plugged in again costs the time in between, one warning and one line, and its neighbour nothing."""

from bench.waiting import check, wait_until

CONFIG = """
[bus.uart]
device = "UART"

[bus.usb]
device = "usb:0403:6001"

[[sensor]]
id = "left"
driver = "uart"
bus = "uart"
match = { json = true }

[[sensor]]
id = "pulled"
driver = "uart"
bus = "usb"
match = { json = true }
"""


def scenario(bench):
    gateway, machine = bench.gateway, bench.machine
    gateway.start(CONFIG.replace("UART", machine.uart_device))
    wait_until("both ports to be open", lambda: machine.shell("ls -l /proc/*/fd; true").count("/dev/tty") >= 2)
    machine.usb.send('{"n":1}\n')
    machine.uart.send('{"n":1}\n')
    gateway.availability("pulled", "online")
    gateway.availability("left", "online")

    mark, log = gateway.client.mark(), gateway.mark()
    machine.unplug_usb()
    gateway.availability("pulled", "offline", mark)
    check(gateway.reading("pulled", mark=mark)["q"] == "fault", "the last reading is told again as a fault")
    machine.uart.send('{"n":2}\n')
    gateway.reading("left", '"n":2', mark)

    machine.plug_usb()
    gateway.wait_log("port is open again", log)
    machine.usb.send('{"n":3}\n')
    check("q" not in gateway.reading("pulled", '"n":3', mark), "good again")
    gateway.availability("pulled", "online", mark)

    gateway.exactly_one(" WARN ", "bus=usb", "port went away", since=log)
    gateway.exactly_one(" INFO ", "bus=usb", "failed=", "outage_ms=", since=log)
    check(len(gateway.log(log)) == 2, f"more than two lines: {gateway.log(log)}")
    check(not gateway.client.since(mark, "tidegate/box/left/availability"), "the other port was never away")
