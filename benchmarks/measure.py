"""Timing side by side, and tables of what came out."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

Seconds = dict[str, float]
"""Part of a side's work → seconds it took."""


@dataclass(frozen=True)
class Row:
    """One line of the results.

    Attributes:
      what: what was measured.
      unit: of `gemkit` and `rival`.
      gemkit, rival: medians over the rounds; None where there is no such side.
      ratio: median over the rounds of how many times better gemkit was in that round, so that a
        change of the machine's load between rounds does not count.
      target: what the project asks for; "" for nothing.
      met: whether it is reached; None without a target.
      remark: how it was measured.
      rounds: every figure behind the medians.
    """

    what: str
    unit: str
    gemkit: float | None
    rival: float | None = None
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    remark: str = ""
    rounds: dict[str, list[float]] = field(default_factory=dict)


def interleave(
    sides: Mapping[str, Callable[[], Seconds]], rounds: int
) -> tuple[dict[str, float], dict[str, dict[str, list[float]]]]:
    """Runs each side once to compile, then all of them in turn, `rounds` times.

    Returns:
      (side → seconds of the first call, which compiles; side → part → seconds of each round).
    """
    first, found = {}, {}
    for name, side in sides.items():
        began = time.perf_counter()
        parts = side()
        first[name] = time.perf_counter() - began
        found[name] = {part: [] for part in parts}
    for _ in range(rounds):
        for name, side in sides.items():
            for part, seconds in side().items():
                found[name][part].append(seconds)
    return first, found


def rates(work: float, seconds: Sequence[float]) -> list[float]:
    """Work per second of each round."""
    return [work / each for each in seconds]


def compared(
    what: str, unit: str, ours: list[float], theirs: list[float] | None, remark: str = "",
    at_least: float | None = None, lower_is_better: bool = False,
) -> Row:  # fmt: skip
    """A row from the figures of each round; `at_least` is the ratio asked for."""
    rounds = {"gemkit": ours, **({} if theirs is None else {"rival": theirs})}
    rival = ratio = met = None
    if theirs is not None:
        pairs = list(zip(ours, theirs, strict=True))
        rival = statistics.median(theirs)
        ratio = statistics.median(b / a if lower_is_better else a / b for a, b in pairs)
        met = None if at_least is None else ratio >= at_least
    target = "" if at_least is None else f"≥ {at_least:g}×"
    return Row(
        what, unit, statistics.median(ours), rival, ratio, target, met, remark, rounds
    )  # fmt: skip


def beside(
    what: str, unit: str, ours: list[float], other: list[float], remark: str = "",
    at_least: float | None = None, lower_is_better: bool = False,
) -> Row:  # fmt: skip
    """`compared`, the other side being no rival but what the remark says."""
    row = compared(what, unit, ours, other, remark, at_least, lower_is_better)
    return replace(row, rival=None)


def limited(
    what: str, unit: str, ours: list[float], below: float | None = None, remark: str = "",
    theirs: list[float] | None = None,
) -> Row:  # fmt: skip
    """A row whose target is an upper limit on gemkit's own figure."""
    middle = statistics.median(ours)
    rival = None if theirs is None else statistics.median(theirs)
    rounds = {"gemkit": ours, **({} if theirs is None else {"rival": theirs})}
    target, met = ("", None) if below is None else (f"< {below:g} {unit}", middle < below)
    return Row(what, unit, middle, rival, None, target, met, remark, rounds)


def markdown(title: str, rows: Sequence[Row], rival: str) -> str:
    """The rows as a Markdown table, remarks as a list under it."""
    head = ["", "gemkit", rival, "unit", "ratio", "target", "met"]
    lines = [f"### {title}", "", _line(head), _line(["---", "---:", "---:"] + ["---"] * 4)]
    for row in rows:
        ratio = "" if row.ratio is None else f"{_figure(row.ratio)}×"
        met = "" if row.met is None else ("yes" if row.met else "no")
        lines.append(
            _line([row.what, _figure(row.gemkit), _figure(row.rival), row.unit, ratio, row.target,
                   met])
        )  # fmt: skip
    remarks = [f"- {row.what}: {row.remark}" for row in rows if row.remark]
    return "\n".join([*lines, *([""] if remarks else []), *remarks, ""])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _figure(value: float | None) -> str:
    """Three figures, no exponent.

    >>> [_figure(x) for x in (0.01234, 6.4, 282.4, 1234.0, None)]
    ['0.0123', '6.40', '282', '1,234', '–']
    """
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 1 else f"{value:.{2 if value < 10 else 1}f}"
