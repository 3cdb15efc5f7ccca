"""gemkit runs: one line a run, damaged ones apart."""

import json
from pathlib import Path
from typing import Any

import small


def test_a_table(call: Any, small_run: small.SmallRun) -> None:
    root = small_run.path.parent
    done = call("runs", root)
    head, line = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert head.split()[:7] == ["run", "task", "model", "rows", "rank", "rate", "steps"]
    assert "accuracy" in head and "macro-F1" in head
    assert line.split()[:6] == ["run", "classify", "small", "48", "8", "0.02"]


def test_the_best_and_the_damaged(
    call: Any, small_run: small.SmallRun, tmp_path: Path
) -> None:
    text = (small_run.path / "run.json").read_text(encoding="utf-8")
    run = json.loads(text)
    for name, accuracy in (("low", 0.125), ("high", 0.875)):
        (tmp_path / name).mkdir()
        run["metrics"] = {"accuracy": accuracy}
        (tmp_path / name / "run.json").write_text(json.dumps(run), encoding="utf-8")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text(text[:99], encoding="utf-8")
    done = call("runs", tmp_path, "--sort", "accuracy")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[1].startswith("high") and "87.5%*" in lines[1]
    assert lines[2].startswith("low") and "12.5% " in lines[2]
    assert done.err.startswith(f"damaged: {tmp_path / 'broken' / 'run.json'}: JSONDecodeError")
    found = json.loads(call("runs", tmp_path, "--json").out)
    assert [run["path"] for run in found["runs"]] == ["high", "low"]
    assert [run["path"] for run in found["damaged"]] == ["broken"]


def test_wrong_usage(call: Any, fails: Any, small_run: small.SmallRun, tmp_path: Path) -> None:
    fails(call("runs", tmp_path), "no run under")
    fails(call("runs", tmp_path / "none"), "is no folder")
    fails(call("runs", small_run.path, "--sort", "speed"), "--sort is 'speed'", code=2)
