"""Takes the kernel out of a bzImage, so that QEMU starts it as it is: unpacking takes seconds without KVM.

    vmlinux.py BZIMAGE VMLINUX
"""

import lzma
import sys

XZ = b"\xfd7zXZ\0"
ELF = b"\x7fELF"


def unpacked(image):
    """The ELF file behind the first xz stream that holds one."""
    at = image.find(XZ)
    while at >= 0:
        try:
            kernel = lzma.LZMADecompressor().decompress(image[at:])
            if kernel.startswith(ELF):
                return kernel
        except lzma.LZMAError:
            pass
        at = image.find(XZ, at + 1)
    raise SystemExit("no kernel packed with xz in this image")


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as source, open(sys.argv[2], "wb") as target:
        target.write(unpacked(source.read()))
