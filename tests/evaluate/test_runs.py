"""Finding, sorting and judging runs; damaged ones are told apart."""

import json
from pathlib import Path
from typing import Any

import pytest

from gemkit.errors import DataError, UsageError
from gemkit.evaluate.runs import SORTS, best_runs, find_runs, metric_names, sorted_runs


def described(task: str = "classify", rank: int | None = 4, **more: Any) -> dict[str, Any]:
    return {
        "task": {"name": task}, "model": {"name": "nano"}, "rows": {"train": 90, "valid": 10},
        "settings": {"optimizer": {"learning_rate": 0.005}, "lora": rank and {"rank": rank}},
        "metrics": {"accuracy": 0.5, "accuracy_before": 0.25, "rows": 10}, "stopped": "",
        "finished": "2026-01-01T00:00:00+00:00", **more,
    }  # fmt: skip


def make(folder: Path, run: Any = None, steps: int = 3) -> Path:
    folder.mkdir(parents=True)
    text = run if isinstance(run, str) else json.dumps(described() if run is None else run)
    (folder / "run.json").write_text(text, encoding="utf-8")
    rows = [{"step": step, "loss": 1.0, "seconds": 0.5} for step in range(1, steps + 1)]
    lines = [json.dumps(row) for row in [*rows, {"step": steps, "valid_loss": 1.0}]]
    (folder / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_what_a_run_tells(tmp_path: Path) -> None:
    make(tmp_path / "a" / "b")
    (run,), damaged = find_runs(tmp_path)
    assert damaged == [] and run.to_dict() == {
        "path": "a/b", "task": "classify", "model": "nano", "rows": 90, "rank": 4, "rate": 0.005,
        "steps": 3, "seconds": 1.5, "finished": "2026-01-01T00:00:00+00:00", "stopped": "",
        "metrics": {"accuracy": 0.5},
    }  # fmt: skip


def test_a_run_made_by_tune(small_run: Any) -> None:
    (run,), _ = find_runs(small_run.path)
    history = small_run.result.history
    assert (run.path, run.task, run.rank) == (".", "classify", 8)
    assert run.steps == max(row["step"] for row in history) and run.rows == 48
    assert run.metrics["accuracy"] == small_run.result.metrics["accuracy"]
    assert run.seconds == pytest.approx(sum(row.get("seconds", 0) for row in history))


def test_runs_are_not_looked_for_inside_their_parts(tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "a" / "checkpoints" / "5")
    make(tmp_path / ".hidden")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [run.path for run in find_runs(tmp_path)[0]] == ["a"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", '{"task": {}}', json.dumps(described(settings=None)), "\udcff",
     json.dumps(described(metrics=[])), json.dumps(described(task="classify", model="nano"))],
)  # fmt: skip
def test_damaged_runs_are_told_apart(tmp_path: Path, text: str) -> None:
    make(tmp_path / "good")
    make(tmp_path / "bad", "{}")
    (tmp_path / "bad" / "run.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    runs, damaged = find_runs(tmp_path)
    assert [run.path for run in runs] == ["good"]
    assert [run.path for run in damaged] == ["bad"] and damaged[0].reason


def test_poor_runs_are_runs(tmp_path: Path) -> None:
    make(tmp_path / "a", described(rows={}, metrics={"accuracy": "high", "bleu": float("nan")}))
    (tmp_path / "a" / "metrics.jsonl").write_text('{"step": 1, "loss": 1}\n{"step"')
    (run,), damaged = find_runs(tmp_path)
    assert damaged == []
    assert (run.rows, run.steps, run.seconds, run.metrics) == (None, None, None, {})


def test_sorting(tmp_path: Path) -> None:
    figures = {"a": (0.5, 3), "b": (0.9, 1), "c": (None, 2)}
    for name, (accuracy, day) in figures.items():
        metrics = {"perplexity": day} if accuracy is None else {"accuracy": accuracy}
        make(tmp_path / name, described(metrics=metrics, finished=f"2026-01-0{day}"), steps=day)
    runs, _ = find_runs(tmp_path)

    def order(key: str) -> str:
        return "".join(run.path for run in sorted_runs(runs, key))

    assert [order(key) for key in ("path", "accuracy", "finished", "steps", "perplexity")] == [
        "abc", "bac", "acb", "bca", "cab"
    ]  # fmt: skip
    assert all(len(order(key)) == 3 for key in SORTS)
    assert metric_names(runs) == ["accuracy", "perplexity"]
    with pytest.raises(UsageError, match="--sort is 'speed'; expected one of path, task"):
        order("speed")


def test_the_best_of_each_task(tmp_path: Path) -> None:
    for name, metrics in {
        "a": {"accuracy": 0.5, "loss": 0.1}, "b": {"accuracy": 0.9, "loss": 0.2},
        "c": {"accuracy": 0.9},
    }.items():  # fmt: skip
        make(tmp_path / name, described(metrics=metrics))
    make(tmp_path / "d", described("text", metrics={"loss": 0.01}))
    runs, _ = find_runs(tmp_path)
    assert best_runs(runs) == {("b", "accuracy"), ("c", "accuracy"), ("a", "loss")}


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        find_runs(tmp_path / "none")
