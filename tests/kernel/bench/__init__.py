"""The bench around a gateway that runs under a real kernel: the machine, its pins, bus and serial ports, and the cloud."""
