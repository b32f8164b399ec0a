"""A part's section of the page: what was claimed, its bar, what was measured."""

from pathlib import Path

SKIPPED = 77
"""What a program ends with that cannot run here."""


class Skipped(Exception):
    """It cannot run here; the argument says why."""


class Section:
    def __init__(self, title: str, how: str) -> None:
        self._title, self._how = title, how
        self._claims: list[tuple[str, str, str, bool]] = []
        self._top: list[str] = []
        self._body: list[str] = []
        self.skipped: list[str] = []

    def hold(self, claim: str, bar: str, measured: str, kept: bool, *, top: bool = True) -> None:
        """A figure and whether it keeps its bar; also in the table at the top of the page unless told otherwise."""
        print(f"  {claim}: {measured} (bar: {bar}) {'' if kept else 'MISSED'}".rstrip(), flush=True)
        self._claims.append((claim, bar, measured, kept))
        if top:
            self._top.append(f"<!-- summary: | {claim} | {bar} | {measured} | {verdict(kept)} | -->")

    def skip(self, what: str, why: str) -> None:
        """Something of this part that cannot be done here."""
        print(f"SKIPPED {what}: {why}", flush=True)
        self.skipped.append(what)
        self._body.append(f"- **SKIPPED** {what}: {why}.")

    def table(self, head: list[str], rows: list[list[str]]) -> None:
        lines = ["| " + " | ".join(cells) + " |" for cells in [head, *rows]]
        lines.insert(1, "|---" * len(head) + "|")
        self._body.append("\n" + "\n".join(lines) + "\n")
        for cells in rows:
            print("  " + " | ".join(cells), flush=True)

    def say(self, text: str) -> None:
        print("  " + text, flush=True)
        self._body.append(text)

    def failed(self) -> bool:
        return any(not kept for *_, kept in self._claims)

    def write(self, path: Path) -> int:
        """Writes it down and returns what the part ends with."""
        lines = [*self._top, f"## {self._title}", "", self._how, "", *self._body]
        if self._claims:
            lines += ["", "| claim | bar | measured | verdict |", "|---|---|---|---|"]
            lines += [f"| {claim} | {bar} | {measured} | {verdict(kept)} |" for claim, bar, measured, kept in self._claims]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines).replace("\n\n\n", "\n\n") + "\n")
        if self.failed():
            return 1
        return 0 if self._claims else SKIPPED


def verdict(kept: bool) -> str:
    return "holds" if kept else "**missed**"
