"""Chips read by a crate, by presets and by a description in the config, each with the numbers of its datasheet, on one real bus."""

CONFIG = """
[bus.i2c-1]
device = "/dev/i2c-1"

[[sensor]]
id = "supply"
driver = "ina219"
bus = "i2c-1"
shunt_ohms = 0.002
max_current = 15
every = "1s"

[[sensor]]
id = "light"
driver = "bh1750"
bus = "i2c-1"
every = "1s"

[[sensor]]
id = "board"
driver = "lm75"
bus = "i2c-1"
address = 0x49
every = "1s"

[[sensor]]
id = "rack"
driver = "tmp102"
bus = "i2c-1"
address = 0x4a
every = "1s"

[[sensor]]
id = "freezer"
driver = "mcp9808"
bus = "i2c-1"
every = "1s"

[[sensor]]
id = "soil"
driver = "i2c-map"
bus = "i2c-1"
address = 0x36
every = "1s"
init = [ { expect = { reg = 0xd0, equals = "55" } } ]
steps = [ { write = "0f10" }, { poll = { reg = 0x01, mask = 0x80, equals = 0 } }, { reg = 0x20, read = 3 } ]
crc = { algorithm = "CRC-8/NRSC-5", every = 2 }
decode.moisture = { type = "u16be", formula = "((x - 200) / 10) | clamp(0, 100)", unit = "%" }
"""


def scenario(bench):
    cloud = bench.cloud.client
    bench.i2c.do(
        # SBOS448G, table 8: 20 mV over 2 milliohms at 11.98 V; the second bit says that it was measured.
        "add 0x40 reg16", "word 0x40 1 0x07d0", "word 0x40 2 0x5d9a",
        # 11046EDT01, page 7. Its commands are what the model takes for registers.
        "add 0x23 reg8", "set 0x23 0x20 0x83 0x90",
        # Table 10 of the LM75B, table 7-1 of the TMP102.
        "add 0x49 reg16", "word 0x49 0 0xe700",
        "add 0x4a reg16", "word 0x4a 0 0x3200", "word 0x4a 1 0x60a0",
        # DS25095A, figure 5-5.
        "add 0x18 reg16", "word 0x18 5 0xc194", "word 0x18 6 0x0054", "word 0x18 7 0x0400",
        # 0xbeef has the checksum 0x92: 48879 counts are above the end of the scale.
        "add 0x36 reg8", "set 0x36 0xd0 0x55", "set 0x36 0x20 0xbe 0xef 0x92",
    )
    mark = cloud.mark()
    bench.gateway.start(CONFIG + bench.cloud.bridge())
    arrives(cloud, "supply", mark, voltage=11.98, current=10, power=119.8)
    arrives(cloud, "light", mark, illuminance=28066.7)
    arrives(cloud, "board", mark, temperature=-25)
    arrives(cloud, "rack", mark, temperature=50)
    arrives(cloud, "freezer", mark, temperature=25.25)
    arrives(cloud, "soil", mark, moisture=100)

    # A flipped bit is told, and is no value.
    bench.i2c.do("set 0x36 0x20 0xbe 0xee 0x92")
    bench.gateway.wait_log(r"WARN .*sensor=soil.*checksum mismatch in bytes 0 to 1")
    mark = cloud.mark()
    bench.i2c.do("set 0x36 0x20 0x02 0xbc 0x9a")
    arrives(cloud, "soil", mark, moisture=50)


def arrives(cloud, sensor, mark, **expected):
    def is_it(message):
        if message.topic != f"tidegate/box/{sensor}":
            return False
        told = message.json()
        return all(abs(told[name] - value) < 0.001 for name, value in expected.items()) and "q" not in told

    cloud.wait_for(f"{sensor} with {expected}", is_it, mark)
