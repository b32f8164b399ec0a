"""What a BME280 and an SHT3x measure is at the cloud, by the datasheets' formulas, and so is what they measure next."""

from bench.chips import Bme280, Sht3x
from bench.waiting import check

CONFIG = """
[bus.i2c-1]
device = "/dev/i2c-1"

[[sensor]]
id = "weather"
driver = "bme280"
bus = "i2c-1"
address = 0x76
every = "500ms"

[[sensor]]
id = "cellar"
driver = "sht3x"
bus = "i2c-1"
address = 0x44
every = "500ms"
"""


def scenario(bench):
    cloud = bench.cloud.client
    weather, cellar = Bme280(bench.i2c), Sht3x(bench.i2c)
    # The example of the datasheet comes first, so that the formula itself is tested: 25.08 °C and 1006.53 hPa.
    temperature, pressure, humidity = weather.measure(519888, 415148, 30000)
    check((round(temperature, 2), round(pressure, 2)) == (25.08, 1006.53), (temperature, pressure))
    cellar_values = cellar.measure(0x6666, 0x8000)
    mark = cloud.mark()
    bench.gateway.start(CONFIG + bench.cloud.bridge())

    arrives(cloud, "weather", mark, temperature=temperature, pressure=pressure, humidity=humidity)
    arrives(cloud, "cellar", mark, temperature=cellar_values[0], humidity=cellar_values[1])

    mark = cloud.mark()
    temperature, pressure, humidity = weather.measure(480000, 400000, 26000)
    cellar_values = cellar.measure(0x3000, 0xC000)
    arrives(cloud, "weather", mark, temperature=temperature, pressure=pressure, humidity=humidity)
    arrives(cloud, "cellar", mark, temperature=cellar_values[0], humidity=cellar_values[1])


def arrives(cloud, sensor, mark, **expected):
    def is_it(message):
        if message.topic != f"tidegate/box/{sensor}":
            return False
        told = message.json()
        return all(abs(told[name] - value) < 0.02 for name, value in expected.items()) and "q" not in told

    cloud.wait_for(f"{sensor} with {expected}", is_it, mark)
