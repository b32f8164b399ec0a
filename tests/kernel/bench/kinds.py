"""The kinds of machines, and everything in which they differ. A scenario asks `bench.machine` and never by name.

    kinds.py KIND    the same for `prepare`, as assignments of the shell
"""

import shlex
import sys
from typing import NamedTuple


class Kind(NamedTuple):
    name: str

    # ---- what it is made of: read by `prepare` ----

    # Debian's name of the architecture, and what its C library and its compilers have in their names.
    arch: str
    triple: str
    # The C compiler for it, and the dynamic linker that its programs ask for.
    cc: str
    loader: str
    # Packages beside those that every kind needs: what runs on this machine, and what goes with the kernel.
    tools: tuple
    beside_kernel: tuple
    # Modules of the kernel, each with those it needs.
    modules: tuple

    # ---- how it runs: read by `machine` ----

    # QEMU's program and where it looks for firmware; the board and its processor; its serial ports; arguments of the kernel.
    qemu: str
    firmware: tuple
    board: tuple
    serial: tuple
    append: str

    # ---- what a scenario may ask ----

    # The serial port that is no USB adapter.
    uart_device: str
    # The versions of the kernel's GPIO interface that it has.
    gpio: tuple


AMD64 = Kind(
    name="amd64",
    arch="amd64",
    triple="x86_64-linux-gnu",
    cc="gcc-12",
    loader="/lib64/ld-linux-x86-64.so.2",
    tools=("qemu-system-x86", "gcc-12", "libc6-dev", "libelf1"),
    beside_kernel=("busybox-static",),
    modules=(
        *("virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "9pnet_virtio", "9p", "ext4"),
        *("i2c-dev", "lm75", "xhci_pci", "usbserial", "ftdi_sio"),
    ),
    qemu="qemu-system-x86_64",
    firmware=("qemu", "seabios"),
    board=("-M", "pc", "-cpu", "max,la57=off"),
    serial=("-device", "isa-serial,chardev=console,index=0", "-device", "isa-serial,chardev=uart,index=1"),
    append="console=ttyS0",
    uart_device="/dev/ttyS1",
    gpio=("v2", "v1"),
)

KINDS = {kind.name: kind for kind in (AMD64,)}


def assignments(kind):
    for key, value in kind._asdict().items():
        yield f"{key}={shlex.quote(value if isinstance(value, str) else ' '.join(value))}"


if __name__ == "__main__":
    if sys.argv[1] not in KINDS:
        sys.exit(f"no kind of machine is named {sys.argv[1]}; there are {', '.join(KINDS)}")
    print("\n".join(assignments(KINDS[sys.argv[1]])))
