"""One part of the proof of the local broker. `run` prepares what it needs."""

import argparse
import importlib
import signal
import sys
import traceback
from pathlib import Path

from stand.section import SKIPPED, Section, Skipped

PARTS = ["01-paho", "02-probes", "03-tools", "04-libraries", "05-figures", "06-hour", "07-routing", "08-large"]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("section", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    # Whoever is told to end ends its brokers first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    module = importlib.import_module("parts." + options.part.partition("-")[2])
    section = Section(module.TITLE, module.HOW.strip())
    try:
        module.run(section, options.quick)
    except Skipped as why:
        section.skip(options.part, str(why))
        section.write(options.section)
        return SKIPPED
    except (AssertionError, OSError, EOFError, LookupError, RuntimeError, ValueError) as error:
        traceback.print_exc()
        section.hold("it ran to its end", "yes", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", False)
    return section.write(options.section)


if __name__ == "__main__":
    sys.exit(main())
