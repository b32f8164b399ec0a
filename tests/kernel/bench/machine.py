"""The machine: QEMU without KVM, Debian's kernel, the bench's module, and an agent that carries out what the host asks.

Its clock counts instructions, 4 ns each (a board of 250 million a second, with one core), and real time while it idles. So a busy host makes
it slow for us, but not for itself: a pulse keeps its length, and the kernel is there in time to see it.
"""

import atexit
import base64
import json
import os
import shutil
import socket
import subprocess
import time

from bench import unit
from bench.disk import Disk
from bench.lines import Lines, connect
from bench.waiting import PATIENCE, Missed, check

MEMORY_MB = 384


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Machine:
    """Booted once it is made, as its kind says. `cache` is what `prepare` made; sockets, disk and console are in the folder `place`."""

    def __init__(self, kind, cache, place, binary):
        self.kind, self._cache, self._place = kind, cache, place
        os.makedirs(self.path("share"), exist_ok=True)
        shutil.copy2(binary, self.path("share/tidegate.deb" if kind.systemd else "share/tidegate"))
        # Sparse, and made anew for each machine.
        subprocess.run(["cp", "--sparse=always", os.path.join(cache, "disk"), self.path("disk")], check=True)
        self.mqtt_port = free_port()
        self._process, self._marks = None, 0
        self.boot()

    @property
    def uart_device(self):
        return self.kind.uart_device

    @property
    def state(self):
        """Where the gateway's state is, on the disk whose power is cut."""
        return "/var/lib/tidegate" if self.kind.systemd else "/data/state"

    def path(self, name):
        return os.path.join(self._place, name)

    def boot(self):
        """Starts the machine; after a power cut, again, with the disk as it was left."""
        began = time.monotonic()
        for name in ("control", "journal", "output", "uart", "usb", "qmp"):
            if os.path.exists(self.path(name)):
                os.unlink(self.path(name))
        self.disk = Disk(self.path("disk"), self.path("nbd"))
        with open(self.path("qemu.log"), "ab") as log:
            self._process = subprocess.Popen(
                self._command(), env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        # A run that fails leaves no machine behind.
        atexit.register(self._process.kill)
        self._control = Lines(connect(self.path("control")))
        self.journal = Lines(connect(self.path("journal")))
        self.output = Lines(connect(self.path("output")))
        self.uart = Lines(connect(self.path("uart")))
        self.usb = Lines(connect(self.path("usb")))
        self._asked = 0
        try:
            self._control.wait("^hello$", timeout=(10 if self.kind.systemd else 4) * PATIENCE)
        except Missed as missed:
            with open(self.path("console"), errors="replace") as console, open(self.path("qemu.log")) as log:
                raise Missed(f"the machine does not boot: {missed}\n{console.read()[-3000:]}\n{log.read()[-1000:]}") from None
        if self.kind.systemd:
            unit.install(self)
        else:
            # 9p reads each page anew; a copy in memory starts as fast as from a disk.
            self.shell("cp /share/tidegate /bin/tidegate")
        self.boot_s = time.monotonic() - began

    def _environment(self):
        libraries = os.path.join(self._cache, "tools/usr/lib/x86_64-linux-gnu")
        return {
            "PATH": os.environ["PATH"],
            "LD_LIBRARY_PATH": f"{libraries}:{os.path.join(self._cache, 'tools/lib/x86_64-linux-gnu')}",
            "QEMU_MODULE_DIR": os.path.join(libraries, "qemu"),
        }

    def _command(self):
        def pipe(name):
            return ["-chardev", f"socket,id={name},path={self.path(name)},server=on,wait=off"]

        def port(name):
            return [*pipe(name), "-device", f"virtserialport,chardev={name},name=bench.{name}"]

        share = os.path.join(self._cache, "tools/usr/share")
        return [
            *[os.path.join(self._cache, "tools/usr/bin", self.kind.qemu), "-nodefaults", "-no-user-config", "-no-reboot"],
            *(word for name in self.kind.firmware for word in ("-L", os.path.join(share, name))),
            *["-display", "none", "-m", str(MEMORY_MB), *self.kind.board],
            *["-accel", "tcg,thread=single,tb-size=256", "-icount", "shift=2,sleep=on"],
            *self._medium(),
            *["-chardev", f"file,id=console,path={self.path('console')}", *pipe("uart"), *self.kind.serial],
            *["-qmp", f"unix:{self.path('qmp')},server=on,wait=off"],
            *["-device", "virtio-serial-pci", *port("control"), *port("journal"), *port("output")],
            *["-device", f"{self.kind.usb},id=usb", *pipe("usb"), "-device", "usb-serial,id=adapter,chardev=usb"],
            # The guest's 10.0.2.2 is the host's loopback; its broker is reached at a port of the host's loopback.
            *["-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.mqtt_port}-:1883"],
            *["-device", "virtio-net-pci,netdev=net,romfile="],
            *["-virtfs", f"local,path={self.path('share')},mount_tag=share,security_model=none,readonly=on"],
            *["-drive", f"if=none,id=disk,format=raw,cache=none,file=nbd:unix:{self.path('nbd')}"],
            *["-device", "virtio-blk-pci,drive=disk"],
            *self._system(),
        ]

    def _system(self):
        """The disk with a Debian. What is written there is gone with the power."""
        if not self.kind.systemd:
            return []
        image = os.path.join(self._cache, "system")
        return ["-drive", f"if=none,id=system,format=raw,snapshot=on,file={image}", "-device", "virtio-blk-pci,drive=system"]

    def _medium(self):
        """What it boots from: a kernel that QEMU loads, and an initramfs."""
        return [
            *["-kernel", os.path.join(self._cache, "kernel"), "-initrd", os.path.join(self._cache, "initramfs")],
            *["-append", f"{self.kind.append} panic=-1 quiet loglevel=4"],
        ]

    def tool(self, program, *arguments):
        """A program of this machine or of the cache, to its end."""
        environment = self._environment()
        folders = [os.path.join(self._cache, "tools", name) for name in ("sbin", "usr/sbin", "bin", "usr/bin")]
        found = shutil.which(program, path=":".join([environment["PATH"], "/usr/sbin", "/sbin", *folders]))
        check(found, f"there is no {program}")
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.run([found, *arguments], env=environment, text=True, **streams)

    # ---- commands to the guest ----

    def ask(self, how, command, timeout=PATIENCE):
        """The status and the output of what the agent was asked to do (guest/agent)."""
        self._asked += 1
        mark = self._control.mark()
        self._control.send(f"{self._asked} {how} {base64.b64encode(command.encode()).decode()}\n")
        answer = self._control.wait(rf"^{self._asked} (\d+) ?(\S*)$", mark, timeout)
        return int(answer[1]), base64.b64decode(answer[2]).decode("utf-8", "replace")

    def shell(self, command, timeout=PATIENCE):
        """Runs a command in the guest; what it prints."""
        status, output = self.ask("run", command, timeout)
        check(status == 0, f"`{command}` ended with {status} in the guest: {output}")
        return output

    def start(self, command):
        """Starts the one process in the guest whose output comes out here; its id."""
        return int(self.ask("start", command)[1])

    def start_beside(self, command, into="/dev/null"):
        """Starts another, whose output goes into a file of the guest; its id."""
        return int(self.shell(f"{command} </dev/null >{into} 2>&1 & echo $!"))

    def bench(self, *commands):
        """Commands to the module (module/main.c)."""
        status, output = self.ask("bench", "\n".join(commands))
        check(status == 0, f"/dev/bench refused {commands}: {output}")

    def mark(self):
        """A place in the module's journal to look from: behind all that has happened."""
        self._hear_all()
        return self.journal.mark()

    def recorded(self, mark=0):
        """What has happened since the mark, to the last line."""
        self._hear_all()
        return self.journal.since(mark)

    def _hear_all(self):
        # The journal comes by another way than a message or an answer, and may be later.
        self._marks += 1
        mark = self.journal.mark()
        self.bench(f"mark {self._marks}")
        self.journal.wait(rf"^\d+ mark {self._marks}$", mark)

    def write(self, name, text):
        """A file that the guest reads at /share."""
        with open(self.path(f"share/{name}"), "w") as file:
            file.write(text)

    # ---- what is plugged, and the power ----

    def qmp(self, command, **arguments):
        with connect(self.path("qmp")) as stream, stream.makefile("rw") as lines:
            lines.readline()
            for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                lines.write(json.dumps(request) + "\n")
                lines.flush()
                answer = {"event": None}
                while "event" in answer:
                    answer = json.loads(lines.readline())
        return answer

    def unplug_usb(self):
        self.qmp("device_del", id="adapter")

    def plug_usb(self):
        # Unplugging ends some time after its answer.
        deadline = time.monotonic() + PATIENCE
        while "error" in self.qmp("device_add", driver="usb-serial", id="adapter", chardev="usb", bus="usb.0"):
            check(time.monotonic() < deadline, "the adapter cannot be plugged in again")
            time.sleep(0.1)

    def cut_power(self, keep="nothing", seed=0):
        """Memory is lost at once, and of the disk's cache all but what `keep` says (bench/disk.py). Returns the sectors not flushed."""
        unflushed = self.disk.cut(keep, seed, self._process.kill)
        self.end()
        return unflushed

    def cut_power_in_a_write(self, keep, seed, sectors):
        """The same inside a write or behind a flush, once so many sectors are not flushed; or fewer, if so many do not come together."""
        while True:
            self.disk.cut_when_full(sectors, keep, seed, self._process.kill)
            if self.disk.gone.wait(1 if sectors > 1 else PATIENCE):
                break
            check(sectors > 1, "nothing is written or flushed any more: the power cannot be cut in it")
            sectors //= 2
        self.end()
        return self.disk.unflushed

    def end(self):
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self.disk.cut("nothing")
