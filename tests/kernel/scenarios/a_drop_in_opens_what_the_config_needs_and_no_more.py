"""What `tidegate config systemd` prints is enough for what the config needs, and closes the rest: with the drop-in of a config that has one port and
no more, chip, line and adapter of a larger config are refused; with that config's own they are read, and the rating of the unit holds."""

from bench.chips import Sht3x
from bench.waiting import Missed, check, wait_until

DROP_IN = "/etc/systemd/system/tidegate.service.d/50-config.conf"

SMALL = """
[bus.uart]
device = "UART"

[[sensor]]
id = "meter"
driver = "uart"
bus = "uart"
match = { kv = "=" }
"""

LARGE = SMALL + """
[bus.usb]
device = "usb:0403:6001"

[bus.i2c-1]
device = "/dev/i2c-1"

[[sensor]]
id = "air"
driver = "uart"
bus = "usb"
match = { json = true }

[[sensor]]
id = "room"
driver = "sht3x"
bus = "i2c-1"
every = "500ms"

[[sensor]]
id = "door"
driver = "gpio-input"
line = "GPIO17"
"""


def why_not(kind):
    return None if kind.systemd else "the machine has no systemd"


def scenario(bench):
    gateway, machine = bench.gateway, bench.machine
    small, large = (config.replace("UART", machine.uart_device) for config in (SMALL, LARGE))
    Sht3x(bench.i2c).measure(30000, 30000)
    bench.pins.drive(17, 1)
    try:
        gateway.start(small)
        take_up(machine)
        gateway.stop()
        gateway.start(large)
        heard(gateway, "meter", lambda: machine.uart.send("power=412.5\n"))
        gateway.wait_log("WARN .*bus=usb.*operation not permitted.*DeviceAllow")
        gateway.wait_log("WARN .*bus=i2c-1.*`/dev/i2c-1`: operation not permitted.*DeviceAllow")
        gateway.wait_log("WARN .*sensor=door.*/dev/gpiochip.*: operation not permitted.*DeviceAllow")
        gateway.stop()

        gateway.start(large)
        take_up(machine)
        gateway.stop()
        gateway.start(large)
        heard(gateway, "meter", lambda: machine.uart.send("power=412.5\n"))
        heard(gateway, "air", lambda: machine.usb.send('{"temperature":21.5}\n'))
        gateway.reading("room", "temperature")
        gateway.availability("door", "online")
        status, told = machine.ask("run", "systemd-analyze security --threshold=20 --no-pager tidegate.service >/tmp/rating; s=$?; tail -n 1 /tmp/rating; exit $s", timeout=90)
        bench.note(told.strip())
        check(status == 0, told)
    finally:
        machine.ask("run", f"rm -f {DROP_IN}; systemctl daemon-reload", timeout=90)


def take_up(machine):
    """As the page says."""
    machine.shell(f"mkdir -p $(dirname {DROP_IN}) && tidegate config systemd >{DROP_IN} && systemctl daemon-reload", timeout=90)


def heard(gateway, sensor, say):
    def reading():
        say()
        try:
            return gateway.reading(sensor, timeout=3)
        except Missed:
            return None

    return wait_until(f"a reading of {sensor}", reading)
