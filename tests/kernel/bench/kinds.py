"""The kinds of machines, and everything in which they differ. A scenario asks `bench.machine` and never by name.

    kinds.py KIND    the same for `prepare`, as assignments of the shell
"""

import shlex
import sys
from typing import NamedTuple


class Kind(NamedTuple):
    name: str

    # ---- what it is made of: read by `prepare` ----

    # The kernel's: Debian's name of the architecture, and what the name of its compiler begins with.
    arch: str
    prefix: str
    # The programs': the same, which may be another one; what their C library has in its name, and the dynamic linker that they ask for.
    program_arch: str
    program_prefix: str
    triple: str
    loader: str
    # Rust's name of theirs, for the folder a build leaves its program in.
    rust: str
    # Packages beside those that every kind needs: what runs on this machine, and what goes with the kernel.
    tools: tuple
    beside_kernel: tuple
    # The releases of Debian that the kernel comes from; none: those of this machine. And what `make` is told when the module is built.
    suites: tuple
    make: tuple
    # Modules of the kernel, each with those it needs; and the driver of its USB controller.
    modules: tuple
    usb_driver: str
    # Whether it goes on to a Debian of its own with systemd, in which the gateway is the service of its package.
    systemd: str

    # ---- how it runs: read by `machine` ----

    # QEMU's program and where it looks for firmware; the board and its processor; its serial ports; its USB controller; arguments of the kernel.
    qemu: str
    firmware: tuple
    board: tuple
    serial: tuple
    usb: str
    append: str

    # ---- what a scenario may ask ----

    # The serial port that is no USB adapter.
    uart_device: str
    # The versions of the kernel's GPIO interface that it has.
    gpio: tuple

    # The scenarios that say most of what only this kind can say; none: every one.
    quick: tuple


AMD64 = Kind(
    name="amd64",
    arch="amd64",
    prefix="",
    program_arch="amd64",
    program_prefix="",
    triple="x86_64-linux-gnu",
    loader="/lib64/ld-linux-x86-64.so.2",
    rust="x86_64-unknown-linux-gnu",
    tools=("qemu-system-x86", "gcc-12", "libc6-dev", "libelf1"),
    beside_kernel=("busybox-static",),
    suites=(),
    make=(),
    modules=(
        *("virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "9pnet_virtio", "9p", "ext4"),
        *("i2c-dev", "lm75", "bmp280-i2c", "bh1750", "w1_therm", "usbserial", "ftdi_sio"),
    ),
    usb_driver="xhci_pci",
    systemd="",
    qemu="qemu-system-x86_64",
    firmware=("qemu", "seabios"),
    board=("-M", "pc", "-cpu", "max,la57=off"),
    serial=("-device", "isa-serial,chardev=console,index=0", "-device", "isa-serial,chardev=uart,index=1"),
    usb="qemu-xhci",
    append="console=ttyS0",
    uart_device="/dev/ttyS1",
    gpio=("v2", "v1"),
    quick=(),
)

# A board of today's architecture, with QEMU's general machine for it.
ARM64 = AMD64._replace(
    name="arm64",
    arch="arm64",
    prefix="aarch64-linux-gnu-",
    program_arch="arm64",
    program_prefix="aarch64-linux-gnu-",
    triple="aarch64-linux-gnu",
    loader="/lib/ld-linux-aarch64.so.1",
    rust="aarch64-unknown-linux-gnu",
    tools=("qemu-system-arm", "gcc-12-aarch64-linux-gnu", "libc6-dev-arm64-cross"),
    beside_kernel=("busybox-static:arm64", "libc6:arm64", "libgcc-s1:arm64"),
    suites=("bookworm", "bookworm-security"),
    qemu="qemu-system-aarch64",
    firmware=("qemu",),
    board=("-M", "virt", "-cpu", "cortex-a72"),
    # The gateway's port is what such boards have, a PL011.
    serial=("-serial", "chardev:uart", "-device", "pci-serial,chardev=console"),
    uart_device="/dev/ttyAMA0",
    quick=(
        "a_bouncing_input_ends_in_its_true_state",
        "a_pulled_usb_adapter_is_back_by_itself",
        "a_relay_follows_the_cloud_and_never_clicks",
        "a_scan_finds_what_hangs_on_the_board",
        "bme280_and_sht3x_values_changed_at_the_chip_arrive_at_the_cloud",
        "lines_from_a_uart_and_a_usb_adapter_are_readings",
        "our_debounce_and_the_kernels_see_the_same_contact",
    ),
)

# Programs of 32 bits above a kernel of the same series, as on a Raspberry Pi OS of 32 bits, whose kernel has 64 on each board that can: what a program says to a
# device is then put into other words by the kernel, or by the driver.
ARMHF = ARM64._replace(
    name="armhf",
    program_arch="armhf",
    program_prefix="arm-linux-gnueabihf-",
    triple="arm-linux-gnueabihf",
    loader="/lib/ld-linux-armhf.so.3",
    rust="armv7-unknown-linux-gnueabihf",
    tools=(*ARM64.tools, "gcc-12-arm-linux-gnueabihf", "libc6-dev-armhf-cross"),
    beside_kernel=("busybox-static:arm64", "libc6:armhf", "libgcc-s1:armhf"),
    # The index of the security suite has been out of step for armhf.
    suites=("bookworm",),
    quick=(
        "a_date_beyond_2038_is_a_date",
        "a_relay_follows_the_cloud_and_never_clicks",
        "bme280_and_sht3x_values_changed_at_the_chip_arrive_at_the_cloud",
        "lines_from_a_uart_and_a_usb_adapter_are_readings",
    ),
)

# A kernel that is built without version 1 of the GPIO interface, as kernels are from 7.0 on, below the same Debian 12.
AMD64_7 = AMD64._replace(
    name="amd64-7",
    # The programs that its headers bring are linked with these.
    beside_kernel=("busybox-static", "libc6", "libelf1t64", "zlib1g", "libzstd1"),
    suites=("trixie-backports", "trixie"),
    # Its own compiler is newer than Debian 12's and has an option that this one has not; types for BPF are of no use here and ask for one more tool.
    make=("CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=", "CONFIG_DEBUG_INFO_BTF_MODULES="),
    # With QEMU 7.2's other controller, each second time that this kernel opens the adapter nothing comes in; to a shell's `cat` too.
    usb="piix3-usb-uhci",
    usb_driver="uhci_hcd",
    gpio=("v2",),
    quick=(
        "a_bouncing_input_ends_in_its_true_state",
        "a_held_line_says_by_whom",
        "a_kernel_without_version_one_is_told_in_words",
        "a_relay_follows_the_cloud_and_never_clicks",
        "edges_under_load_are_counted_or_told_as_missed",
        "lines_from_a_uart_and_a_usb_adapter_are_readings",
        "our_debounce_and_the_kernels_see_the_same_contact",
    ),
)

# The same machine as it is when the package is installed: users, groups, udev's rules and all that the unit forbids.
AMD64_SYSTEMD = AMD64._replace(
    name="amd64-systemd",
    systemd="bookworm",
    append="console=ttyS0 net.ifnames=0 systemd.mask=serial-getty@ttyS0.service systemd.mask=getty@tty1.service",
    quick=(
        "a_drop_in_opens_what_the_config_needs_and_no_more",
        "a_held_line_says_by_whom",
        "chips_described_as_data_are_read",
        "lines_from_a_uart_and_a_usb_adapter_are_readings",
    ),
)

KINDS = {kind.name: kind for kind in (AMD64, ARM64, ARMHF, AMD64_7, AMD64_SYSTEMD)}


def assignments(kind):
    for key, value in kind._asdict().items():
        yield f"{key}={shlex.quote(value if isinstance(value, str) else ' '.join(value))}"


if __name__ == "__main__":
    if sys.argv[1] not in KINDS:
        sys.exit(f"no kind of machine is named {sys.argv[1]}; there are {', '.join(KINDS)}")
    print("\n".join(assignments(KINDS[sys.argv[1]])))
