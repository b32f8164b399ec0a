"""Chips on the bus: what their registers hold, and what a driver must make of it by the formula of the datasheet, written here anew."""


def _bytes(values):
    return " ".join(f"0x{value & 0xFF:02x}" for value in values)


def _low_first(words):
    return [byte for word in words for byte in (word & 0xFF, word >> 8 & 0xFF)]


def crc8(data, crc):
    """Sensirion's checksum, polynomial 0x31, begun with `crc`."""
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x31 if crc & 0x80 else crc << 1) & 0xFF
    return crc


class Bme280:
    """Bosch BME280: temperature, pressure, humidity (BST-BME280-DS002, sections 4.2 and 5.3)."""

    ID = 0x60
    # The trimming of the example in the BMP280's datasheet (BST-BMP280-DS001, 3.12); for humidity that of a chip in use.
    T = (27504, 26435, -1000)
    P = (36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000)
    H = (75, 370, 0, 313, 50, 30)

    def __init__(self, i2c, address=0x76):
        self._i2c, self.address = i2c, address
        h1, h2, h3, h4, h5, h6 = self.H
        i2c.do(
            f"add {address} reg8",
            f"set {address} 0xd0 {self.ID}",
            f"set {address} 0x88 {_bytes(_low_first(self.T + self.P))} 0x00 {_bytes([h1])}",
            f"set {address} 0xe1 {_bytes([*_low_first([h2]), h3, h4 >> 4, h4 & 0x0F | (h5 & 0x0F) << 4, h5 >> 4, h6])}",
        )
        self.measure(519888, 415148, 30000)

    def measure(self, temperature, pressure, humidity):
        """The raw numbers that the chip measures from now on: of 20, 20 and 16 bits. Returns what they stand for, in °C, hPa and %."""
        t, p, h = temperature << 4, pressure << 4, humidity
        raw = [p >> 16, p >> 8, p, t >> 16, t >> 8, t, h >> 8, h]
        self._i2c.do(f"set {self.address} 0xf7 {_bytes(raw)}")
        return self._compensate(temperature, pressure, humidity)

    def _compensate(self, raw_t, raw_p, raw_h):
        t1, t2, t3 = self.T
        p1, p2, p3, p4, p5, p6, p7, p8, p9 = self.P
        h1, h2, h3, h4, h5, h6 = self.H
        fine = (raw_t / 16384 - t1 / 1024) * t2 + (raw_t / 131072 - t1 / 8192) ** 2 * t3
        a = fine / 2 - 64000
        b = (a * a * p6 / 32768 + a * p5 * 2) / 4 + p4 * 65536
        c = (1 + (p3 * a * a / 524288 + p2 * a) / 524288 / 32768) * p1
        p = (1048576 - raw_p - b / 4096) * 6250 / c
        p += (p9 * p * p / 2147483648 + p * p8 / 32768 + p7) / 16
        h = fine - 76800
        h = (raw_h - (h4 * 64 + h5 / 16384 * h)) * (
            h2 / 65536 * (1 + h6 / 67108864 * h * (1 + h3 / 67108864 * h))
        )
        h *= 1 - h1 * h / 524288
        return fine / 5120, p / 100, min(max(h, 0), 100)


class Sht3x:
    """Sensirion SHT30, SHT31, SHT35: temperature and humidity (datasheet of the SHT3x-DIS, sections 4.3, 4.4, 4.12 and 4.13)."""

    # Single shots of the three repeatabilities, with the clock stretched and without; and the fetch of a periodic measurement.
    COMMANDS = (0x2C06, 0x2C0D, 0x2C10, 0x2400, 0x240B, 0x2416, 0xE000)
    LONGEST_US = 15_000

    def __init__(self, i2c, address=0x44):
        self._i2c, self.address = i2c, address
        i2c.do(f"add {address} cmd16")
        # The status register: nothing to report.
        i2c.do(f"answer {address} 0xf32d 0 {_bytes(self._with_crc(0))}")
        self.measure(0x6666, 0x8000)

    def measure(self, temperature, humidity):
        """The raw words that the chip measures from now on. Returns what they stand for, in °C and %."""
        answer = _bytes(self._with_crc(temperature) + self._with_crc(humidity))
        self._i2c.do(*(f"answer {self.address} 0x{command:04x} {self.LONGEST_US} {answer}" for command in self.COMMANDS))
        return -45 + 175 * temperature / 65535, 100 * humidity / 65535

    @staticmethod
    def _with_crc(word):
        data = [word >> 8, word & 0xFF]
        return data + [crc8(data, 0xFF)]


class Ads1115:
    """Texas Instruments ADS1115: four inputs of an analogue-to-digital converter (SBAS444, section 8.6)."""

    def __init__(self, i2c, address=0x48):
        self._i2c, self.address = i2c, address
        # The configuration as after power-on: no conversion runs.
        i2c.do(f"add {address} reg16", f"word {address} 1 0x8583")
        self.measure(0x2000)

    def measure(self, counts):
        """What is converted from now on. Returns the volts it stands for, within 2.048 V of full scale."""
        self._i2c.do(f"word {self.address} 0 {counts}")
        return counts * 2.048 / 32768
