"""Nobody at the address, a kernel driver that has it, a bus that is not there: each is told once, in words, and ends by itself."""

from bench.chips import Ads1115, Sht3x
from bench.waiting import check

CONFIG = """
[bus.i2c-1]
device = "/dev/i2c-1"

[bus.i2c-7]
device = "/dev/i2c-7"

[[sensor]]
id = "missing"
driver = "sht3x"
bus = "i2c-1"
address = 0x45
every = "500ms"

[[sensor]]
id = "held"
driver = "ads1115"
bus = "i2c-1"
address = 0x48
inputs = [{ name = "battery", input = "A0" }]
every = "500ms"

[[sensor]]
id = "nowhere"
driver = "bme280"
bus = "i2c-7"
every = "500ms"
"""
SYS = "/sys/bus/i2c/devices/i2c-1"


def scenario(bench):
    gateway = bench.gateway
    converter = Ads1115(bench.i2c, 0x48)
    # As an overlay or a device tree would: the kernel's own driver takes the address.
    bench.machine.shell(f"echo lm75 0x48 >{SYS}/new_device")
    try:
        gateway.start(CONFIG)
        gateway.wait_log(r"WARN .*no answer at 0x45 \(NACK\)")
        gateway.wait_log("WARN .*0x48 is held by a kernel driver, `lm75`")
        gateway.wait_log("WARN .*there is no `/dev/i2c-7`")
        log = gateway.mark()

        Sht3x(bench.i2c, 0x45)
        gateway.availability("missing", "online", timeout=90)
    finally:
        bench.machine.shell(f"echo 0x48 >{SYS}/delete_device")
    gateway.availability("held", "online", timeout=90)
    check(gateway.reading("held")["battery"] == converter.measure(0x2000), "what it converts")

    gateway.exactly_one(" WARN ", "sensor=missing")
    gateway.exactly_one(" WARN ", "sensor=held")
    gateway.exactly_one(" WARN ", "bus=i2c-7")
    gateway.exactly_one("INFO .*sensor=missing", "outage_ms=", since=log)
    gateway.exactly_one("INFO .*sensor=held", "outage_ms=", since=log)
    check(len(gateway.log(log)) == 2, gateway.log(log))
