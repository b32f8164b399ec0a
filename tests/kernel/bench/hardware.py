"""What hangs on the machine's lines and on its bus, by way of the module (module/main.c)."""

import re
from typing import NamedTuple

from bench.waiting import PATIENCE, wait_until

# Linux's numbers for what ends a transfer.
NACK, TIMED_OUT, LOST_ARBITRATION, BUSY, IO_ERROR = 121, 110, 11, 16, 5
ALL = -1


class Level(NamedTuple):
    """A change of a wire: when (nanoseconds of CLOCK_MONOTONIC), to what, and by whom."""

    ns: int
    level: int
    who: str


def levels(line, journal):
    """The changes of a wire that these lines of the journal tell."""
    found = (re.match(rf"(\d+) gpio {line} ([01]) (\w+)$", entry) for entry in journal)
    return [Level(int(match[1]), int(match[2]), match[3]) for match in found if match]


class Pins:
    """The lines of the chip `bench-gpio`, whose names are GPIO0 to GPIO31."""

    def __init__(self, machine):
        self._machine = machine

    def drive(self, line, level):
        """From outside: 0, 1, or None to let it float."""
        self._machine.bench(f"gpio {line} {'z' if level is None else level}")

    def keep(self, *lines):
        """These keep their level when a program gives them back, as most chips have it; the others become inputs."""
        self._machine.bench(*(f"keep {line}" for line in lines))

    def wave(self, line, times, *steps):
        """Steps of (level, microseconds), `times` over, from a kernel timer."""
        self.waves((line, times, *steps))

    def waves(self, *waves):
        """Several at once, each with its line, times and steps."""
        self._machine.bench(*(f"wave {line} {times} " + " ".join(f"{level}:{us}" for level, us in steps) for line, times, *steps in waves))

    def wait_wave(self, line, mark, timeout=PATIENCE):
        self._machine.journal.wait(rf"wave {line} done$", mark, timeout)

    def mark(self):
        return self._machine.mark()

    def trace(self, line, mark=0):
        """The changes of a wire since the mark."""
        return levels(line, self._machine.recorded(mark))

    def wait(self, line, level, who, mark=0, timeout=PATIENCE):
        match = self._machine.journal.wait(rf"^\d+ gpio {line} {level} {who}$", mark, timeout)
        return int(match[0].split()[0])

    def hold(self, line):
        """Takes the line away, as another program would: the kernel's old interface, which calls itself sysfs."""
        self._sysfs("export", line)

    def let_go(self, line):
        self._sysfs("unexport", line)

    def _sysfs(self, do, line):
        chips = "/sys/class/gpio/gpiochip*/label"
        base = int(self._machine.shell(f"cat $(grep -l bench-gpio {chips} | sed 's/label$/base/')"))
        self._machine.shell(f"echo {base + line} >/sys/class/gpio/{do}")


class I2c:
    """The chips on /dev/i2c-1."""

    def __init__(self, machine):
        self._machine = machine

    def do(self, *commands):
        self._machine.bench(*(f"i2c {command}" for command in commands))

    def fail(self, address, error=NACK, count=ALL, us=0):
        self.do(f"fail {address} {error} {count} {us}")

    def stretch(self, address, us, count=ALL):
        """It holds the clock for so long, and then goes on."""
        self.fail(address, 0, count, us)

    def mend(self):
        self.do("mend")

    def transfers(self, address, mark=0):
        """The results of the transfers to an address since the mark."""
        found = (re.match(rf"\d+ i2c 0x{address:02x} (-?\d+)", entry) for entry in self._machine.recorded(mark))
        return [int(match[1]) for match in found if match]


class Wire:
    """Thermometers on the 1-Wire bus, DS18B20, by the serial in their names."""

    def __init__(self, machine):
        self._machine = machine

    def add(self, serial, degrees):
        self._machine.bench(f"w1 add {serial}")
        self.measure(serial, degrees)

    def remove(self, serial):
        self._machine.bench(f"w1 remove {serial}")

    def measure(self, serial, degrees):
        """What the conversions from now on find: sixteenths of a degree."""
        self._machine.bench(f"w1 set {serial} {round(degrees * 16)}")

    def starve(self, serial, count):
        """So many conversions lose their power."""
        self._machine.bench(f"w1 starve {serial} {count}")

    def garble(self, serial, count):
        """Of so many scratchpads a bit is flipped."""
        self._machine.bench(f"w1 garble {serial} {count}")


class Serial:
    """The port /dev/ttyBench0, of the module's own driver."""

    def __init__(self, machine):
        self._machine = machine

    def wait_open(self, path):
        wait_until(f"{path} to be open", lambda: path in self._machine.shell("ls -l /proc/[0-9]*/fd 2>/dev/null || true"))

    def receive(self, data, how="rx"):
        """Bytes come, at once; `how`: with an error of the line, `frame`, `parity` or `overrun`."""
        self._machine.bench(f"uart {how} " + " ".join(map(str, data)))

    def knows(self, flags, delays):
        """What of RS-485 its driver can do."""
        self._machine.bench(f"uart knows {flags} {int(delays)}")

    def rs485(self, mark):
        """How it was told to switch since the mark: flags and the two delays."""
        found = (re.match(r"\d+ uart rs485 0x(\w+) (\d+) (\d+)$", entry) for entry in self._machine.recorded(mark))
        return [(int(match[1], 16), int(match[2]), int(match[3])) for match in found if match]
