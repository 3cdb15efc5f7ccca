"""All runs under a folder, side by side: what was tuned how, and what came of it."""

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gemkit.errors import DataError, UsageError
from gemkit.metrics.scores import METRICS

UNSEEN = ("checkpoints", "adapter", "model", "tensorboard")
"""Folders of a run in which no other run is looked for."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One run directory.

    Attributes:
      path: of the directory, below the folder that was searched.
      task, model: their names.
      rows: it learnt from.
      rank: of LoRA; None where all weights were trained.
      rate: the peak of the learning rate.
      steps: taken; None where nothing tells.
      seconds: the steps took together.
      finished: when, in ISO 8601; "" if it has not.
      stopped: "" or why it ended early.
      metrics: by their names in `metrics.scores.METRICS`, after tuning.
    """

    path: str
    task: str
    model: str
    rows: int | None
    rank: int | None
    rate: float | None
    steps: int | None
    seconds: float | None
    finished: str
    stopped: str
    metrics: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class DamagedRun:
    """A folder with a run.json that cannot be used: where, and why."""

    path: str
    reason: str


SORTS = tuple(field.name for field in dataclasses.fields(Run) if field.name != "metrics")


def find_runs(folder: str | Path) -> tuple[list[Run], list[DamagedRun]]:
    """Every run directory under a folder, itself included, by path; damaged ones apart.

    Raises:
      DataError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root} is no folder", "one with runs of gemkit tune")
    runs, damaged = [], []
    for path in _run_folders(root):
        name = path.relative_to(root).as_posix()
        try:
            runs.append(_described(name, path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            damaged.append(DamagedRun(name, f"{type(error).__name__}: {error}"))
    return runs, damaged


def sorted_runs(runs: Sequence[Run], key: str) -> list[Run]:
    """By a metric, the best first, or by another column, the newest `finished` first.

    Runs without the value come last.

    Raises:
      UsageError: no such column.
    """
    if key not in SORTS and key not in METRICS:
        raise UsageError(f"--sort is {key!r}", f"one of {', '.join((*SORTS, *METRICS))}")

    def value(run: Run) -> Any:
        return run.metrics.get(key) if key in METRICS else getattr(run, key)

    known = [run for run in runs if value(run) not in (None, "")]
    down = METRICS[key].up if key in METRICS else key == "finished"
    return sorted(known, key=value, reverse=down) + [run for run in runs if run not in known]


def metric_names(runs: Sequence[Run]) -> list[str]:
    """The metrics that some run has, in the order of `METRICS`."""
    return [name for name in METRICS if any(name in run.metrics for run in runs)]


def best_runs(runs: Sequence[Run]) -> set[tuple[str, str]]:
    """(path, metric) of the best among the runs of a task; none where only one has it."""
    best = set()
    for task in {run.task for run in runs}:
        for name in METRICS:
            having = [run for run in runs if run.task == task and name in run.metrics]
            if len(having) < 2:
                continue
            pick = max if METRICS[name].up else min
            top = pick(run.metrics[name] for run in having)
            best |= {(run.path, name) for run in having if run.metrics[name] == top}
    return best


def _run_folders(folder: Path) -> Iterator[Path]:
    if (folder / "run.json").is_file():
        yield folder
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return
    for path in inside:
        if path.name not in UNSEEN and not path.name.startswith(".") and not path.is_symlink():
            yield from _run_folders(path)


def _described(name: str, path: Path) -> Run:
    run = json.loads((path / "run.json").read_text("utf-8"))
    settings, lora = run["settings"], run["settings"].get("lora")
    steps, seconds = _course(path / "metrics.jsonl")
    return Run(
        path=name,
        task=str(run["task"]["name"]),
        model=str(run["model"]["name"]),
        rows=_figure(run.get("rows", {}).get("train")),
        rank=None if lora is None else _figure(lora["rank"]),
        rate=_figure(settings.get("optimizer", {}).get("learning_rate")),
        steps=steps,
        seconds=seconds,
        finished=str(run.get("finished") or ""),
        stopped=str(run.get("stopped") or ""),
        metrics={
            key: value
            for key, value in run.get("metrics", {}).items()
            if key in METRICS and _figure(value) is not None
        },
    )


def _figure(value: Any) -> Any:
    """A finite number, or None for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None


def _course(path: Path) -> tuple[int | None, float | None]:
    """Steps and seconds of metrics.jsonl; None where it is missing or damaged."""
    steps, seconds = None, 0.0
    try:
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            if "loss" in row:
                steps, seconds = int(row["step"]), seconds + float(row.get("seconds", 0.0))
    except (OSError, ValueError, TypeError, KeyError):
        return None, None
    return steps, None if steps is None else seconds
