"""Lines on a serial port, byte for byte: in pieces, two at once, with noise in them, without an end. What is whole is a reading, nothing else is; noise
is told once, and once when it is over; and so are characters that the UART says it received garbled."""

from bench.waiting import check

PORT = "/dev/ttyBench0"
# The count of errors is looked at so often.
LOOK_S = 10

CONFIG = f"""
[bus.line]
device = "{PORT}"

[[sensor]]
id = "meter"
driver = "uart"
bus = "line"
match = {{ kv = "=" }}
"""


def scenario(bench):
    gateway, serial = bench.gateway, bench.serial
    gateway.start(CONFIG)
    serial.wait_open(PORT)
    # What comes as a port opens may be half a line.
    bench.machine.shell("sleep 0.2")
    serial.receive(b"n=0\r\n")
    gateway.reading("meter", '"n":0')

    mark, log = gateway.client.mark(), gateway.mark()
    for byte in b"n=1 power=412.5\r\n":
        serial.receive(bytes([byte]))
    check(gateway.reading("meter", '"n":1', mark)["power"] == 412.5, "byte by byte")
    serial.receive(b"n=2\r\nn=3\nn=4 pow")
    serial.receive(b"er=7\r")
    serial.receive(b"\n")
    check(gateway.reading("meter", '"n":4', mark)["power"] == 7, "a piece of a line waits for its rest")
    check(numbers(gateway, mark) == [1, 2, 3, 4], f"{numbers(gateway, mark)}")
    check(not gateway.log(log), gateway.log(log))

    # Noise, a line that is longer than 512 bytes, and one without an end, which the next end ends.
    serial.receive(b"n=5\xff\xfe power=1\r\n")
    serial.receive(b"n=6 " + b"x" * 600 + b"=1\r\n")
    for _ in range(8):
        serial.receive(b"n=7 x=" + b"1" * 500)
    serial.receive(b"\r\nn=8\r\n")
    gateway.reading("meter", '"n":8', mark)
    check(numbers(gateway, mark) == [1, 2, 3, 4, 8], f"half a measurement is none: {numbers(gateway, mark)}")
    for number in range(9, 19):
        serial.receive(b"n=%d\r\n" % number)
    gateway.reading("meter", '"n":18', mark)
    gateway.wait_log("INFO .*frames are good again", log)
    gateway.exactly_one(" WARN ", "sensor=meter", "bad frame", "not UTF-8", since=log)
    gateway.exactly_one(" INFO ", "sensor=meter", "failed=3", since=log)
    check(len(gateway.log(log)) == 2, gateway.log(log))

    # A stop bit is not where it belongs: the kernel counts it, and gives a zero byte.
    log = gateway.mark()
    bench.machine.shell(f"sleep {LOOK_S}")
    serial.receive(b"\x55", "frame")
    serial.receive(b"\r\nn=19\r\n")
    gateway.reading("meter", '"n":19', mark)
    gateway.wait_log("WARN .*bus=line", log)
    gateway.exactly_one(" WARN ", "bus=line", "framing=1", since=log)
    bench.machine.shell(f"sleep {LOOK_S}")
    serial.receive(b"n=20\r\n")
    gateway.reading("meter", '"n":20', mark)
    gateway.wait_log("INFO .*bus=line", log)
    gateway.exactly_one(" INFO ", "bus=line", "the line is clean again", since=log)
    check(len(gateway.log(log)) == 2, gateway.log(log))
    check(not gateway.client.since(mark, "tidegate/box/meter/availability"), "it was never away")


def numbers(gateway, mark):
    return [message.json()["n"] for message in gateway.client.since(mark, "tidegate/box/meter") if not message.retained]
