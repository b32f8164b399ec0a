"""A disk with a write cache, whose power a test can cut.

QEMU sees an NBD export on a unix socket. What the guest writes stays in memory until it flushes or writes with FUA. `cut` ends the service
at one instant and decides what of the rest reaches the image. Killing QEMU alone would be half a power cut: the guest's memory is lost, the
disk's cache is not.

A program that flushes after each write leaves the cache empty nearly all the time, so a cut at any moment would lose nothing and show nothing.
`cut_when_full` has the disk choose the moment: inside a write, once so many sectors wait for a flush; or behind a flush that is done and was not
answered, when all of it is kept and the guest does not know: the second one from a flush of so many on, since a file system flushes what a file grew by
before it writes down that it grew.
"""

import os
import random
import socket
import struct
import threading

SECTOR = 512

# https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
READ, WRITE, DISCONNECT, FLUSH, TRIM, WRITE_ZEROES = 0, 1, 2, 3, 4, 6
OPTION_EXPORT_NAME, OPTION_ABORT, OPTION_INFO, OPTION_GO = 1, 2, 6, 7
REPLY_ACK, REPLY_INFO, REPLY_UNSUPPORTED = 1, 3, 0x80000001
INFO_EXPORT, INFO_BLOCK_SIZE = 0, 3
TRANSMISSION_FLAGS = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6  # flags are told, flush, FUA, trim, write zeroes
COMMAND_FUA = 1


class Disk:
    """Serves `image` at the socket `path`."""

    def __init__(self, image, path):
        self._trap = None
        self.gone = threading.Event()
        self.unflushed = 0  # how many sectors were not flushed when the power went
        self._file = os.open(image, os.O_RDWR)
        self._size = os.fstat(self._file).st_size
        self._newest = {}  # sector -> what was written last and not flushed
        self._history = []  # the same, every write in its order
        self._lock = threading.Lock()
        self._cut = False
        if os.path.exists(path):
            os.unlink(path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(4)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, keep="nothing", seed=0, at_once=lambda: None):
        """Stops at this instant, in which `at_once` is called too. `keep`: "nothing" of what was not flushed; "some": each sector by a coin of
        the seed, so that writes are lost, torn and reordered; "flushed": all. Returns how many sectors were not flushed."""
        with self._lock:
            self._cut_here(keep, seed, at_once)
        return self.unflushed

    def cut_when_full(self, sectors, *how):
        """The same, but at the first sector from now on that makes so many not flushed, for "flushed" at the flush behind the first of so many; then `gone` is set.
        The last call counts."""
        with self._lock:
            self._trap = (sectors, how)

    def _springs(self, at_a_flush):
        """Cuts if it was told to, here and with so many sectors not flushed."""
        if self._trap and (self._trap[1][0] == "flushed") == at_a_flush and len(self._newest) >= self._trap[0]:
            if at_a_flush and self._trap[0]:
                self._trap = (0, self._trap[1])
            else:
                self._cut_here(*self._trap[1])
        return self._cut

    def _cut_here(self, keep, seed, at_once):
        if self._cut:
            return
        self._cut = True
        at_once()
        self.unflushed = len(self._newest)
        if keep == "flushed":
            self._flush()
        elif keep == "some":
            coin = random.Random(seed)
            for sector, data in self._history:
                if coin.random() < 0.5:
                    os.pwrite(self._file, data, sector * SECTOR)
        os.close(self._file)
        self._listener.close()
        self.gone.set()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            if self._greet(client):
                self._transmit(client)
        except (EOFError, OSError):
            pass
        finally:
            client.close()

    def _greet(self, client):
        client.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
        _exactly(client, 4)
        while True:
            _, option, size = struct.unpack(">8sII", _exactly(client, 16))
            _exactly(client, size)

            def reply(kind, data=b""):
                client.sendall(struct.pack(">QIII", 0x3E889045565A9, option, kind, len(data)) + data)

            if option == OPTION_EXPORT_NAME:
                client.sendall(struct.pack(">QH", self._size, TRANSMISSION_FLAGS))
                return True
            if option in (OPTION_INFO, OPTION_GO):
                reply(REPLY_INFO, struct.pack(">HQH", INFO_EXPORT, self._size, TRANSMISSION_FLAGS))
                reply(REPLY_INFO, struct.pack(">HIII", INFO_BLOCK_SIZE, SECTOR, 4096, 1 << 25))
                reply(REPLY_ACK)
                if option == OPTION_GO:
                    return True
            elif option == OPTION_ABORT:
                reply(REPLY_ACK)
                return False
            else:
                reply(REPLY_UNSUPPORTED)

    def _transmit(self, client):
        while True:
            _, flags, kind, handle, offset, size = struct.unpack(">IHHQQI", _exactly(client, 28))
            data = _exactly(client, size) if kind == WRITE else bytes(size) if kind == WRITE_ZEROES else b""
            answer = b""
            with self._lock:
                if self._cut or kind == DISCONNECT:
                    return
                if kind == READ:
                    answer = self._read(offset, size)
                elif kind in (WRITE, WRITE_ZEROES):
                    self._write(offset, data, flags & COMMAND_FUA)
                elif kind == FLUSH and not self._springs(at_a_flush=True):
                    self._flush()
                if self._cut:
                    return
            client.sendall(struct.pack(">IIQ", 0x67446698, 0, handle) + answer)

    def _read(self, offset, size):
        data = bytearray(os.pread(self._file, size, offset))
        if self._newest:
            for at in range(0, size, SECTOR):
                written = self._newest.get((offset + at) // SECTOR)
                if written is not None:
                    data[at : at + SECTOR] = written
        return bytes(data)

    def _write(self, offset, data, through):
        for at in range(0, len(data), SECTOR):
            sector, piece = (offset + at) // SECTOR, data[at : at + SECTOR]
            if through:
                os.pwrite(self._file, piece, sector * SECTOR)
                self._newest.pop(sector, None)
            else:
                self._newest[sector] = piece
                self._history.append((sector, piece))
                if self._springs(at_a_flush=False):
                    return

    def _flush(self):
        for sector, data in self._newest.items():
            os.pwrite(self._file, data, sector * SECTOR)
        self._newest.clear()
        self._history.clear()


def _exactly(client, count):
    got = bytearray()
    while len(got) < count:
        more = client.recv(count - len(got))
        if not more:
            raise EOFError
        got += more
    return bytes(got)
