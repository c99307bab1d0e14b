"""Rows of measured figures, their budgets, and the table at the end."""

import dataclasses
import statistics

COLUMNS = ("sluice", "floor", "nginx", "haproxy", "envoy")


@dataclasses.dataclass
class Row:
    scenario: str
    what: str
    unit: str
    samples: dict                 # peer → figures, one a round
    budget: str = ""
    met: bool = None              # None: no budget
    notes: str = ""

    def value(self, peer):
        values = self.samples.get(peer)
        return statistics.median(values) if values else None

    def at_most(self, factor, reference, peer="sluice"):
        """Budget: at most `factor` times the reference, a peer of this row."""
        mine, other = self.value(peer), self.value(reference)
        if mine is not None and other:
            self.budget = f"≤ {factor:g} × {reference}"
            self.met = mine <= factor * other
            self.notes = f"{mine / other:.2f} × {reference}"
        return self

    def below(self, reference, peer="sluice"):
        mine, other = self.value(peer), self.value(reference)
        if mine is not None and other:
            self.budget = f"< {reference}"
            self.met = mine < other
            self.notes = f"{mine / other:.2f} × {reference}"
        return self

    def limit(self, most, peer="sluice"):
        mine = self.value(peer)
        if mine is not None:
            self.budget = f"≤ {most:g} {self.unit}".strip()
            self.met = mine <= most
        return self

    def json(self):
        return {**dataclasses.asdict(self), "median": {peer: self.value(peer) for peer in self.samples}}


def number(value):
    if value is None:
        return ""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(rows):
    """The table as lines of Markdown."""
    extra = sorted({peer for row in rows for peer in row.samples} - set(COLUMNS))
    columns = [*COLUMNS, *extra]
    lines = [["scenario", "figure", "unit", *columns, "budget", "verdict"]]
    for row in rows:
        verdict = {None: "", True: "pass", False: "MISS"}[row.met]
        if row.notes:
            verdict = f"{verdict} ({row.notes})".strip()
        lines.append([row.scenario, row.what, row.unit, *[number(row.value(c)) for c in columns], row.budget, verdict])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    lines.insert(1, ["-" * w for w in widths])
    numeric = range(3, 3 + len(columns))
    return ["| " + " | ".join(cell.rjust(w) if i in numeric and cell[:1] != "-" else cell.ljust(w)
                              for i, (cell, w) in enumerate(zip(line, widths))) + " |" for line in lines]
