"""A chip that the config describes, with its id, its ready bit, a formula and a number that stands for nothing; and a preset, HTU21D, with its
checksum, whose chip does not acknowledge until it has measured."""

from bench.chips import crc8
from bench.waiting import check

SOIL, HTU21D = 0x36, 0x40

CONFIG = """
[bus.i2c-1]
device = "/dev/i2c-1"

[[sensor]]
id = "soil"
driver = "i2c-map"
bus = "i2c-1"
address = 0x36
every = "500ms"
init = [{ expect = { reg = 0x00, equals = "55" } }, { write = "0f10", delay = "5ms" }]
steps = [{ poll = { reg = 0x01, mask = 0x80, equals = 0x80 } }, { reg = 0x10, read = 2 }]

[sensor.decode.moisture]
type = "u16be"
formula = "((x - 200) / 10) | clamp(0, 100)"
unit = "%"
invalid = [0xffff]

[[sensor]]
id = "attic"
driver = "htu21d"
bus = "i2c-1"
every = "500ms"
"""


def scenario(bench):
    gateway, i2c = bench.gateway, bench.i2c
    i2c.do(f"add {SOIL} reg8", f"set {SOIL} 0 0x55 0x80", f"set {SOIL} 0x10 0x02 0x80", f"add {HTU21D} cmd16")
    attic(i2c, 0x6C00, 0x7C80)
    gateway.start(CONFIG)
    check(gateway.reading("soil")["moisture"] == 44, "(640 - 200) / 10")
    told = gateway.reading("attic")
    # The datasheet's formulas (HPC199_6, page 15).
    check(abs(told["temperature"] - (175.72 * 0x6C00 / 65536 - 46.85)) < 0.01, told)
    check(abs(told["humidity"] - (125 * 0x7C80 / 65536 - 6)) < 0.01, told)
    check(" W 0f10" in " ".join(bench.machine.recorded()), "it was set up")

    mark = gateway.client.mark()
    i2c.do(f"set {SOIL} 0x10 0xff 0xff")
    check(gateway.reading("soil", '"q"', mark)["q"] == "fault", "a number that stands for nothing is no value")
    i2c.do(f"set {SOIL} 0x10 0x03 0x20")
    gateway.reading("soil", '"moisture":60', mark)

    mark, log = gateway.client.mark(), gateway.mark()
    attic(i2c, 0x6C00, 0x7C80, garbled=True)
    gateway.availability("attic", "offline", mark)
    attic(i2c, 0x7000, 0x7C80)
    gateway.availability("attic", "online", mark)
    gateway.exactly_one(" WARN ", "sensor=attic", "checksum", since=log)
    gateway.exactly_one(" INFO ", "sensor=attic", "outage_ms=", since=log)


def attic(i2c, temperature, humidity, garbled=False):
    """What the HTU21D answers from now on: a word and its checksum, at once after a reset and 45 ms or 15 ms after a command."""
    for command, us, word in ((0xF3, 45_000, temperature), (0xF5, 15_000, humidity)):
        answer = [word >> 8, word & 0xFF]
        answer.append(crc8(answer, 0x00) ^ garbled)
        i2c.do(f"answer {HTU21D} {command} {us} " + " ".join(map(str, answer)))
