"""Something else keeps /dev/ttyUSB0 open while the adapter is pulled, so that it comes back as /dev/ttyUSB1: the config names the adapter and not its
socket, and it is found there at once. When the name is free again, it is found under its old one."""

from bench.waiting import check, wait_until

CONFIG = """
[bus.usb]
device = "usb:0403:6001"

[[sensor]]
id = "meter"
driver = "uart"
bus = "usb"
match = { json = true }
"""


def scenario(bench):
    gateway, machine = bench.gateway, bench.machine
    # Before the gateway, which opens the port for itself alone. The hangup at the pull is not to end it.
    holder = machine.shell("(trap '' HUP; exec sleep 600 </dev/ttyUSB0 >/dev/null 2>&1) & echo $!").strip()
    try:
        wait_until("the holder", lambda: opened(bench) == ["/dev/ttyUSB0"])
        gateway.start(CONFIG)
        wait_until("the port to be open", lambda: len(opened(bench)) == 2)
        machine.usb.send('{"n":1}\n')
        gateway.reading("meter", '"n":1')
        moved(bench, "/dev/ttyUSB1", 2)
        check(machine.shell("ls /dev | grep ttyUSB || true").split() == ["ttyUSB1"], "the old name is nobody's")
    finally:
        machine.ask("run", f"kill {holder}")
    moved(bench, "/dev/ttyUSB0", 3)


def moved(bench, path, number):
    """Pulled and plugged in again, it is read at this path; one warning and one line."""
    gateway, machine = bench.gateway, bench.machine
    mark, log = gateway.client.mark(), gateway.mark()
    machine.unplug_usb()
    gateway.availability("meter", "offline", mark)
    machine.plug_usb()
    gateway.wait_log("port is open again", log)
    check(path in opened(bench), f"it is at {path}: {opened(bench)}")
    machine.usb.send(f'{{"n":{number}}}\n')
    check("q" not in gateway.reading("meter", f'"n":{number}', mark), "good again")
    gateway.availability("meter", "online", mark)
    gateway.exactly_one(" WARN ", "bus=usb", "port went away", since=log)
    bench.note(gateway.exactly_one(" INFO ", "bus=usb", "outage_ms=", since=log).split("INFO ")[1])
    check(len(gateway.log(log)) == 2, gateway.log(log))


def opened(bench):
    """The adapters' paths that processes have open."""
    words = bench.machine.shell("ls -l /proc/[0-9]*/fd 2>/dev/null | grep -o '/dev/ttyUSB.*' || true").splitlines()
    return [path for path in words if "deleted" not in path]
