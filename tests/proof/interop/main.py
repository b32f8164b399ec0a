"""Looks at the bridge with brokers as they are packaged. `run` prepares what it needs."""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import campaign
import looks
import page
from bench.certificates import Certificates
from bench.stage import Outcome, Stage
from brokers.broker import Broker, Missing
from brokers.ejabberd import Ejabberd
from brokers.aedes import Aedes
from brokers.rabbitmq import RabbitMq
from brokers.mosquitto import Mosquitto
from brokers.nats import Nats

BROKERS: dict[str, type[Broker]] = {"mosquitto": Mosquitto, "nats": Nats, "rabbitmq": RabbitMq, "ejabberd": Ejabberd, "aedes": Aedes}


def meet(kind: type[Broker], folder: Path, options: argparse.Namespace) -> Outcome:
    """Everything with one broker."""
    outcome = Outcome(kind.name)
    certificates = Certificates(folder / "certificates")
    broker = kind(folder / "broker", options.packages, certificates)
    stage = Stage(broker, options.binary, folder, certificates, outcome)
    try:
        outcome.version = broker.version()
        broker.start()
    except Missing as why:
        outcome.skipped = str(why)
        return outcome
    try:
        for row, look in looks.ROWS:
            if not options.row or row in options.row:
                stage.look(row, look)
        if not options.row or "campaign" in options.row:
            stage.look("campaign", campaign.run)
    finally:
        stage.clear()
        broker.stop()
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("binary", type=Path)
    parser.add_argument("packages", type=Path)
    parser.add_argument("fragment", type=Path)
    parser.add_argument("broker", nargs="*", help=f"only these of {', '.join(BROKERS)}")
    parser.add_argument("--row", action="append", help="only these rows")
    options = parser.parse_args()
    options.binary = options.binary.resolve()
    begun, outcomes = time.monotonic(), []
    for name in options.broker or BROKERS:
        folder = Path(tempfile.mkdtemp(prefix=f"tidegate-{name}-"))
        at = time.monotonic()
        outcome = meet(BROKERS[name], folder, options)
        outcomes.append(outcome)
        tell(outcome, time.monotonic() - at)
        if outcome.failures:
            print(f"  what it left: {folder}")
        else:
            shutil.rmtree(folder)
    page.write(options.fragment, page.fragment(outcomes, time.monotonic() - begun))
    if any(outcome.failures for outcome in outcomes):
        return 1
    return page.SKIPPED if all(outcome.skipped for outcome in outcomes) else 0


def tell(outcome: Outcome, seconds: float) -> None:
    if outcome.skipped:
        print(f"SKIPPED {outcome.broker}: {outcome.skipped}", flush=True)
        return
    print(f"{outcome.broker} {outcome.version} ({seconds:.0f} s)")
    for row, cell in outcome.cells.items():
        print(f"  {row}: {cell}")
    for note in outcome.notes:
        print(f"  note: {note}")
    for failure in outcome.failures:
        print(f"  FAILED {failure}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
