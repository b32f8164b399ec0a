"""Takes the kernel out of a bzImage, so that QEMU starts it as it is: unpacking takes seconds without KVM. An image for ARM is not packed.

    vmlinux.py IMAGE KERNEL
"""

import lzma
import subprocess
import sys

XZ = b"\xfd7zXZ\0"
ZSTD = b"\x28\xb5\x2f\xfd"
ELF = b"\x7fELF"
ARM64, ARM64_AT = b"ARM\x64", 0x38


def streams(image, magic):
    """Everything from each place on where such a stream may begin."""
    at = image.find(magic)
    while at >= 0:
        yield image[at:]
        at = image.find(magic, at + 1)


def unzstd(packed):
    # The standard library has no zstd. What follows the stream is an error, after everything was unpacked.
    return subprocess.run(["zstd", "-dcq"], input=packed, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout


def unpacked(image):
    """The ELF file behind the first stream that holds one."""
    if image[ARM64_AT : ARM64_AT + len(ARM64)] == ARM64:
        return image
    for magic, unpack in ((XZ, lambda packed: lzma.LZMADecompressor().decompress(packed)), (ZSTD, unzstd)):
        for packed in streams(image, magic):
            try:
                kernel = unpack(packed)
            except lzma.LZMAError:
                continue
            if kernel.startswith(ELF):
                return kernel
    raise SystemExit("no kernel packed with xz or zstd in this image")


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as source, open(sys.argv[2], "wb") as target:
        target.write(unpacked(source.read()))
