"""A task with generated answers as typed: tune, predict, evaluate; flags of the others."""

import json
from pathlib import Path
from typing import Any

import pytest

from gemkit.train.data import read_table

ROWS = "1\tThe warm soup.\tLa soupe.\n2\tThe cold tea.\tLe thé.\n3\tBread\tPain\n"


@pytest.fixture(scope="module")
def run(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A translating run made by the command line, with a configuration file."""
    from gemkit.cli.main import main

    folder = tmp_path_factory.mktemp("translate")
    (folder / "rows.tsv").write_text(ROWS, encoding="utf-8")
    (folder / "recipe.toml").write_text(
        'max-new-tokens = 4\nlanguage = "German"\nepochs = 1\nvalid-answers = 2\n'
    )
    code = main(
        [
            "tune", "translate", "--model", str(small_model), "--data", str(folder / "rows.tsv"),
            "--valid", str(folder / "rows.tsv"), "--out", str(folder / "run"),
            "--config", str(folder / "recipe.toml"), "--language", "French",
        ]
    )  # fmt: skip
    assert code == 0
    return folder / "run"


def test_the_settings_of_the_task_are_flags(run: Path) -> None:
    task = json.loads((run / "run.json").read_text("utf-8"))["task"]
    assert task == {
        "name": "translate", "source": "src", "target": "dst", "language": "French",
        "template": "translate", "max_new_tokens": 4,
    }  # fmt: skip


def test_predict_translates(call: Any, run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"en": "The warm soup.", "n": 1}\n')
    out = tmp_path / "b.jsonl"
    done = call("predict", run, tmp_path / "a.jsonl", "--source", "en", "--out", out)
    assert (done.code, done.err) == (0, f"{out}: 1 rows; column 'dst'\n")
    assert read_table(out).columns == ("en", "n", "dst")


def test_evaluate_says_all_measures(call: Any, run: Path) -> None:
    done = call("evaluate", run, run.parent / "rows.tsv", "--json")
    found = json.loads(done.out)
    assert list(found) == ["rows", "loss", "perplexity", "bleu", "chrf"]
    shown = call("evaluate", run, run.parent / "rows.tsv").out.splitlines()
    assert shown[0].split() == ["loss", f"{found['loss']:.3f}"]


def test_completed_files_are_run_if_asked(
    call: Any, fails: Any, small_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.py").write_text("x = len('abc')\nassert x == 3\n")
    (tmp_path / "tree" / "b.js").write_text("x = f(1);\n")
    flags = ["--task", "complete", "--gaps", 1, "--spans", "expression", "--max-new-tokens", 4]
    asked = ["evaluate", small_model, tmp_path / "tree", *flags]
    assert "pass@1" not in call(*asked, "--json").out
    done = call(*asked, "--json", "--run-tests")
    found = json.loads(done.out)
    assert list(found)[-2:] == ["pass@1", "ran"] and found["ran"]["counted"] == 1
    said = "pass@1 counts 1 of 2 rows; others fail with the true answer too, the first: it is no "
    assert done.err == said + "Python\n"
    assert call(*asked, "--run-tests").out.splitlines()[-1].startswith("pass@1  ")
    wrong = ["evaluate", small_model, tmp_path / "a.tsv", "--task", "classify", "--run-tests"]
    fails(call(*wrong), "--run-tests is nothing to the task classify; expected the task com", 2)


def test_flags_of_another_task_are_refused(call: Any, fails: Any, run: Path) -> None:
    said = "--gaps is nothing to the task translate; expected of --source, --target, --language"
    fails(call("evaluate", run, run.parent / "rows.tsv", "--gaps", "2"), said, 2)
    fails(call("predict", run, "a.tsv", "--out", "b.tsv", "--label", "x"), "--label is nothing", 2)
    said = "template is 'poem'; expected one of translate, chat"
    fails(call("evaluate", run, run.parent / "rows.tsv", "--template", "poem"), said, 2)
