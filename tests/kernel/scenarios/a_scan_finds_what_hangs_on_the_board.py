"""`tidegate scan` finds the chips on the bus, who holds one of them, the lines and who holds one of those, and the serial ports; `tidegate read`
reads a sensor of the config once."""

import json

from bench.chips import Ads1115, Bme280, Sht3x
from bench.gateway import HEAD
from bench.waiting import check

SYS = "/sys/bus/i2c/devices/i2c-1"
LINE = 22


def scenario(bench):
    machine = bench.machine
    weather = Bme280(bench.i2c)
    temperature, _, _ = weather.measure(480000, 400000, 26000)
    Sht3x(bench.i2c), Ads1115(bench.i2c)
    machine.shell(f"echo lm75 0x48 >{SYS}/new_device")
    bench.pins.hold(LINE)
    try:
        (bus,) = scan(bench, "i2c")
        targets = {target["address"]: (target["held_by"], target["drivers"]) for target in bus["targets"]}
        check(bus["path"] == "/dev/i2c-1" and bus["name"] == "bench-i2c", bus)
        check(sorted(targets) == [0x44, 0x48, 0x76], f"found at {sorted(targets)}")
        check("bme280" in targets[0x76][1] and "sht3x" in targets[0x44][1], f"perhaps {targets}")
        holders = [targets[address][0] for address in sorted(targets)]
        check(holders == [None, "lm75", None], f"the kernel driver that holds one is named: {holders}")

        # A board may have more chips of its own.
        (chip,) = [chip for chip in scan(bench, "gpio") if chip["label"] == "bench-gpio"]
        check(len(chip["lines"]) == 32, chip)
        held = [(line["name"], line["consumer"]) for line in chip["lines"] if line["used"]]
        check(held == [("GPIO22", "sysfs")], f"held are {held}")

        (warm,) = [chip for chip in scan(bench, "hwmon") if chip["name"] == "lm75"]
        check(warm["inputs"] == ["temp1"], warm)

        ports = [port["path"] for port in scan(bench, "serial")]
        check(machine.uart_device in ports and "/dev/ttyUSB0" in ports, f"ports are {ports}")
    finally:
        machine.shell(f"echo 0x48 >{SYS}/delete_device")
        bench.pins.let_go(LINE)

    machine.write("tidegate.toml", HEAD + '[bus.b]\ndevice = "/dev/i2c-1"\n[[sensor]]\nid = "weather"\ndriver = "bme280"\nbus = "b"\n')
    code, printed = bench.gateway.run("read weather --json --config /share/tidegate.toml")
    check(code == 0 and abs(json.loads(printed)["values"]["temperature"]["value"] - temperature) < 0.01, f"{code}: {printed}")


def scan(bench, what):
    code, printed = bench.gateway.run(f"scan {what} --json")
    check(code == 0, f"scan {what} ended with {code}: {printed}")
    return json.loads(printed)
