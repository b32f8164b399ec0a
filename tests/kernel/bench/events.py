"""How many events the kernel made of the edges on its lines: what a program can be told at most.

Two edges of which the second comes before the thread of the line's interrupt has run for the first are one event, and no number is left out: nobody can
count them. How often that happens is a matter of the processor, here an emulated one on a host that has other things to do. So a program that counts is
held to the events and not to the edges. The kernel counts the calls of that thread itself (Documentation/trace/kprobetrace.rst, "Event Profiling").
"""

from bench.waiting import check

TRACING = "/sys/kernel/tracing"
# drivers/gpio/gpiolib-cdev.c.
THREAD = {"v1": "lineevent_irq_thread", "v2": "edge_irq_thread"}


class KernelEvents:
    """Those of every line that is held by this version of the interface, from `with` on."""

    def __init__(self, machine, version):
        self._machine, self._thread = machine, THREAD[version]

    def __enter__(self):
        self._machine.shell(f"grep -q ' {TRACING} ' /proc/mounts || mount -t tracefs tracefs {TRACING}")
        # It counts all the same, and writes no record of each into the memory of its tracer, which would take the thread's time.
        self._machine.shell(f"cd {TRACING} && echo 0 >tracing_on && echo 'p:bench/events {self._thread}' >>kprobe_events && echo 1 >events/bench/events/enable")
        return self

    def __exit__(self, kind, *_):
        if kind:
            # A machine in which something failed is thrown away, and may answer no more.
            return
        self._machine.shell(f"cd {TRACING} && echo 0 >events/bench/events/enable && echo '-:bench/events' >>kprobe_events")

    def so_far(self):
        calls, unseen = self._machine.shell(f"grep -w events {TRACING}/kprobe_profile").split()[1:]
        check(unseen == "0", f"{unseen} calls of {self._thread} were not counted")
        return int(calls)
