"""A socket to the machine, read on a thread into lines."""

import re
import socket
import threading
import time

from bench.waiting import PATIENCE, Missed


def connect(path, timeout=PATIENCE):
    """Connects to one of QEMU's sockets as soon as it is there."""
    deadline = time.monotonic() + timeout
    while True:
        stream = socket.socket(socket.AF_UNIX)
        try:
            stream.connect(path)
            return stream
        except OSError:
            stream.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class Lines:
    """What comes out of a socket, and a way to write into it."""

    def __init__(self, stream):
        self._stream = stream
        self._lines = []
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        rest = b""
        while True:
            try:
                received = self._stream.recv(65536)
            except OSError:
                return
            if not received:
                return
            *whole, rest = (rest + received).split(b"\n")
            with self._changed:
                self._lines += [line.decode("utf-8", "replace").rstrip("\r") for line in whole]
                self._changed.notify_all()

    def send(self, text):
        self._stream.sendall(text.encode())

    def mark(self):
        """A place to look from: behind everything that has come."""
        with self._changed:
            return len(self._lines)

    def since(self, mark=0):
        with self._changed:
            return self._lines[mark:]

    def wait(self, pattern, mark=0, timeout=PATIENCE):
        """The first line from the mark on that matches, as a match."""
        wanted = re.compile(pattern)
        deadline = time.monotonic() + timeout
        with self._changed:
            at = mark
            while True:
                for line in self._lines[at:]:
                    match = wanted.search(line)
                    if match:
                        return match
                at = len(self._lines)
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    raise Missed(f"waited {timeout} s for a line like {pattern!r}; the last are {self._lines[-5:]}")
