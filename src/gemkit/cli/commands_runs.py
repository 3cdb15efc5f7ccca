"""Runs side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gemkit.cli.commands import print_table
from gemkit.cli.commands_text import visible
from gemkit.cli.options import JSON, Command, as_json, remark
from gemkit.errors import DataError

if TYPE_CHECKING:
    from gemkit.evaluate.runs import Run

HEAD = ("run", "task", "model", "rows", "rank", "rate", "steps")


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--sort", "key", metavar="COLUMN", default="path",
    help="By path (default), rows, rank, rate, steps, seconds, finished, or a metric: best first.",
)  # fmt: skip
@JSON
def runs(folder: Path, key: str, as_program: bool) -> None:
    """Compare the runs under a folder.

    One line each: task, model, training rows, rank of LoRA, learning rate, steps, metrics of the
    validation rows, time and when it finished; * marks the best of a task's runs.
    """
    from gemkit.evaluate.runs import find_runs, sorted_runs

    found, damaged = find_runs(folder)
    found = sorted_runs(found, key)
    if not found and not damaged:
        raise DataError(f"no run under {folder}", "a folder with a run.json, made by gemkit tune")
    if as_program:
        as_json({
            "runs": [run.to_dict() for run in found],
            "damaged": [{"path": run.path, "reason": run.reason} for run in damaged],
        })  # fmt: skip
        return
    if found:
        _show(found)
    for broken in damaged:
        where = folder / broken.path / "run.json"
        remark(visible(f"damaged: {where}: {broken.reason}"))


def _show(found: Sequence["Run"]) -> None:
    from gemkit.evaluate.runs import best_runs, metric_names
    from gemkit.metrics.scores import METRICS

    names, best = metric_names(found), best_runs(found)

    def metric(run: "Run", name: str) -> str:
        if name not in run.metrics:
            return ""
        return METRICS[name].show(run.metrics[name]) + ("*" if (run.path, name) in best else " ")

    head = [*HEAD, *(f"{METRICS[name].title} " for name in names), "time", "finished"]
    rows = [
        [
            visible(run.path), visible(run.task), visible(Path(run.model).name), _count(run.rows),
            "full" if run.rank is None else f"{run.rank}",
            "" if run.rate is None else f"{run.rate:g}", _count(run.steps),
            *(metric(run, name) for name in names), _time(run.seconds), _when(run),
        ]
        for run in found
    ]  # fmt: skip
    print_table(head, rows, right=tuple(range(3, len(head) - 1)))
    if best:
        print("\n* the best of the task's runs")


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _time(seconds: float | None) -> str:
    """
    >>> _time(9.2), _time(75), _time(7384)
    ('9 s', '1:15', '2:03:04')
    """
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{rest} s"


def _when(run: "Run") -> str:
    """Date and minute, and why it ended early."""
    when = visible(run.finished[:16].replace("T", " "))
    return f"{when} ({visible(run.stopped)})" if run.stopped else when or "not finished"
