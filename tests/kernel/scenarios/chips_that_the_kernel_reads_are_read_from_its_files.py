"""Chips that the kernel's own drivers read, over the same bus: a BME280 and a BH1750 by IIO, an LM75 by hwmon. Their values are the datasheets', a chip
that does not answer is told once, and one whose driver is taken away and bound anew, under another number, is back by itself."""

import json

from bench.chips import Bme280
from bench.hardware import NACK
from bench.waiting import check

SYS = "/sys/bus/i2c/devices/i2c-1"
WEATHER, LIGHT, BOARD = 0x76, 0x23, 0x48

CONFIG = """
[[sensor]]
id = "weather"
driver = "iio"
chip = "bme280"
every = "500ms"

[[sensor]]
id = "light"
driver = "iio"
chip = "bh1750"
every = "500ms"

[[sensor]]
id = "board"
driver = "hwmon"
chip = "lm75"
inputs = ["temp1"]
every = "500ms"
"""


def scenario(bench):
    gateway, i2c = bench.gateway, bench.i2c
    weather = Bme280(i2c, WEATHER)
    # BH1750: its commands are what the model takes for registers. 0x8390 at the usual time of measurement, 11046EDT01, page 7.
    i2c.do(f"add {LIGHT} reg8", f"set {LIGHT} 0x20 0x83 0x90", f"add {BOARD} reg16", f"word {BOARD} 0 0xe700")
    bound = []
    try:
        for name, address in (("bme280", WEATHER), ("bh1750", LIGHT), ("lm75", BOARD)):
            bind(bench, name, address)
            bound.append(address)
        listed = {found["name"]: found["inputs"] for what in ("iio", "hwmon") for found in scan(bench, what)}
        check(set(listed["bme280"]) == {"temp", "pressure", "humidityrelative"}, listed)
        check(listed["bh1750"] == ["illuminance"] and "temp1" in listed["lm75"], listed)
        gateway.start(CONFIG)

        weather_is(gateway, weather.measure(519888, 415148, 30000))
        weather_is(gateway, weather.measure(480000, 400000, 26000))
        check(abs(gateway.reading("light")["illuminance"] - 0x8390 / 1.2) < 0.5, "33680 counts")
        check(gateway.reading("board")["temp1"] == -25, "LM75B, table 10: E700 is -25 °C")
        i2c.do(f"word {BOARD} 0 0x7d00")
        gateway.reading("board", '"temp1":125')

        mark, log = gateway.client.mark(), gateway.mark()
        i2c.fail(BOARD, NACK)
        gateway.availability("board", "offline", mark)
        i2c.mend()
        gateway.availability("board", "online", mark, timeout=60)
        gateway.wait_log("INFO .*sensor=board.*outage_ms=", log)
        bench.note(gateway.exactly_one(" WARN ", "sensor=board", since=log).split("WARN ")[1])
        gateway.exactly_one(" INFO ", "sensor=board", "outage_ms=", since=log)

        # Another IIO device takes the number that it had.
        mark, log = gateway.client.mark(), gateway.mark()
        number = device_number(bench, "bme280")
        unbind(bench, WEATHER)
        gateway.availability("weather", "offline", mark)
        unbind(bench, LIGHT)
        gateway.availability("light", "offline", mark)
        bind(bench, "bh1750", LIGHT)
        bind(bench, "bme280", WEATHER)
        check(device_number(bench, "bme280") != number, "it has another number")
        gateway.availability("weather", "online", mark, timeout=60)
        gateway.availability("light", "online", mark, timeout=60)
        weather_is(gateway, weather.measure(519888, 415148, 30000), gateway.client.mark())
        for sensor in ("weather", "light"):
            gateway.wait_log(f"INFO .*sensor={sensor}.*outage_ms=", log)
            gateway.exactly_one(" WARN ", f"sensor={sensor}", since=log)
            gateway.exactly_one(" INFO ", f"sensor={sensor}", "outage_ms=", since=log)
    finally:
        gateway.stop()
        for address in bound:
            bench.machine.ask("run", f"echo 0x{address:02x} >{SYS}/delete_device")


def weather_is(gateway, expected, mark=0):
    """The kernel reckons in whole numbers, of a hundredth of a degree and thousandths of a hPa and a per cent."""
    wanted = dict(zip(("temperature", "pressure", "humidity"), expected))

    def is_it(message):
        if message.topic != "tidegate/box/weather":
            return False
        told = message.json()
        return "q" not in told and all(abs(told[name] - value) < 0.03 for name, value in wanted.items())

    gateway.client.wait_for(f"the weather {wanted}", is_it, mark)


def bind(bench, name, address):
    bench.machine.shell(f"echo {name} 0x{address:02x} >{SYS}/new_device")


def unbind(bench, address):
    bench.machine.shell(f"echo 0x{address:02x} >{SYS}/delete_device")


def device_number(bench, name):
    return bench.machine.shell(f"grep -lx {name} /sys/bus/iio/devices/iio:device*/name")


def scan(bench, what):
    code, printed = bench.gateway.run(f"scan {what} --json")
    check(code == 0, f"scan {what} ended with {code}: {printed}")
    return json.loads(printed)
