"""A tuned model over files: columns, formats, probabilities, scores."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small

import gemkit
from gemkit.errors import CheckpointError, DataError, GemkitError, UsageError
from gemkit.evaluate.run import check_writable, evaluate_file, predict_file, run_task
from gemkit.metrics.labels import ClassificationScores, score_labels
from gemkit.tasks import Classify
from gemkit.train.data import read_table


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def test_a_submission_file(small_run: Any, tmp_path: Path) -> None:
    asked = small.rows(9, seed=2)
    source = [f"{number}\t{text}" for number, (text, _) in enumerate(asked)]
    file = write(tmp_path / "test.tsv", "id\tcomment", *source)
    done = predict_file(small_run.path, file, tmp_path / "out.tsv")
    expected = ["id\tcomment\tlabel", *(f"{s}\t{a[1]}" for s, a in zip(source, asked, strict=True))]
    assert (tmp_path / "out.tsv").read_text("utf-8").splitlines() == expected
    assert (done.column, done.out) == ("label", tmp_path / "out.tsv")
    assert [answer.text for answer in done.answers] == [label for _, label in asked]


def test_a_label_column_is_overwritten_in_place(small_run: Any, tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.csv", "label,comment,note", ',The warm soup today.,"a, ""b"""',
        "?,The cold tea at noon.,",
    )  # fmt: skip
    predict_file(small_run.path, file, tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text("utf-8").splitlines() == [
        "label,comment,note", 'good,The warm soup today.,"a, ""b"""', "bad,The cold tea at noon.,",
    ]  # fmt: skip


def test_another_text_column_and_another_format(small_run: Any, tmp_path: Path) -> None:
    row = {"n": 1, "words": "The warm tea.", "more": {"a": None}}
    file = write(tmp_path / "a.jsonl", json.dumps(row))
    predict_file(small_run.path, file, tmp_path / "b.jsonl", text="words")
    assert json.loads((tmp_path / "b.jsonl").read_text()) == {**row, "label": "good"}
    with pytest.raises(DataError, match="no column 'comment'.*--text"):
        predict_file(small_run.path, file, tmp_path / "c.jsonl")
    predict_file(small_run.path, file, tmp_path / "d.parquet", text="words")
    assert read_table(tmp_path / "d.parquet").rows[0]["label"] == "good"


def test_probabilities_are_columns_that_sum_to_1(small_run: Any, tmp_path: Path) -> None:
    predict_file(small_run.path, small_run.valid, tmp_path / "o.tsv", probabilities=True)
    rows = read(tmp_path / "o.tsv")
    assert list(rows[0]) == ["id", "comment", "label", "p(bad)", "p(good)"]
    for row in rows:
        shares = {label: float(row[f"p({label})"]) for label in ("bad", "good")}
        assert sum(shares.values()) == pytest.approx(1, abs=2e-6)
        assert max(shares, key=lambda label: shares[label]) == row["label"]


def test_evaluate_agrees_with_predict_and_with_the_run(small_run: Any, tmp_path: Path) -> None:
    predict_file(small_run.path, small_run.valid, tmp_path / "o.tsv")
    truth = [row["label"] for row in read(small_run.valid)]
    expected = score_labels(truth, [row["label"] for row in read(tmp_path / "o.tsv")])
    found = evaluate_file(small_run.path, run_task(small_run.path), small_run.valid)
    assert found.scores == expected
    assert found.metrics["accuracy"] == small_run.result.metrics["accuracy"]
    assert len(found.table.rows) == len(found.answers) == len(truth)


def test_a_plain_model_takes_the_labels_of_the_file(small_model: Path, small_run: Any) -> None:
    task = Classify(text="comment", label="label")
    found = evaluate_file(gemkit.load(small_model), task, small_run.valid)
    assert isinstance(found.scores, ClassificationScores)
    assert found.scores.labels == ("bad", "good")
    assert found.scores.accuracy == small_run.result.metrics["accuracy_before"]
    assert found == evaluate_file(small_model, task, small_run.valid)


def test_bad_rows_stop_or_are_left_out(small_run: Any, tmp_path: Path) -> None:
    long = "soup " * small.CONTEXT
    file = write(
        tmp_path / "a.tsv", "id\tcomment", "1\tThe warm soup.", "2", "3\t", f"4\t{long}",
        "5\tThe cold soup.",
    )  # fmt: skip
    out = tmp_path / "out.tsv"
    with pytest.raises(DataError, match="line 3: 1 field"):
        predict_file(small_run.path, file, out)
    assert not out.exists()
    done = predict_file(small_run.path, file, out, skip_bad_rows=True)
    assert [(row["id"], row["label"]) for row in read(out)] == [("1", "good"), ("5", "bad")]
    assert [bad.line for bad in done.table.skipped] == [3, 4, 5]
    assert "tokens long" in done.table.skipped[2].reason


def test_evaluate_leaves_rows_without_a_known_label_out(small_run: Any, tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.tsv", "comment\tlabel", "The warm soup.\tgood", "The warm tea.\tawful",
        "The cold tea.\t", "The cold soup.\tbad",
    )  # fmt: skip
    task = run_task(small_run.path)
    with pytest.raises(DataError, match="line 3: label 'awful' is unknown; expected one of bad"):
        evaluate_file(small_run.path, task, file)
    found = evaluate_file(small_run.path, task, file, skip_bad_rows=True)
    assert (len(found.answers), found.metrics["accuracy"], len(found.table.skipped)) == (2, 1.0, 2)
    write(file, "comment\tlabel", "The warm tea.\tawful")
    with pytest.raises(DataError, match="label 'awful' is unknown.*all 1 rows are bad"):
        evaluate_file(small_run.path, task, file, skip_bad_rows=True)


def test_another_dtype_than_the_run_was_tuned_in(small_run: Any, tmp_path: Path) -> None:
    lm = gemkit.load(small_run.path, dtype="bfloat16")
    assert lm.base["embed"].dtype == "bfloat16"
    done = predict_file(small_run.path, small_run.valid, tmp_path / "o.tsv", dtype="bfloat16")
    ours = np.array([list(answer.probabilities.values()) for answer in done.answers])
    task = run_task(small_run.path)
    exact = task.predict(small_run.result.lm, read_table(small_run.valid))
    theirs = np.array([list(answer.probabilities.values()) for answer in exact])
    differences = np.abs(ours - theirs)
    assert 0 < differences.max() < 0.2
    with pytest.raises(UsageError, match="dtype is int8"):
        gemkit.load(small_run.path, dtype="int8")


def test_the_task_of_a_run(small_run: Any, tmp_path: Path) -> None:
    task = run_task(small_run.path, text="words")
    assert task == Classify("words", "label", ("bad", "good"))
    with pytest.raises(UsageError, match="is no run directory"):
        run_task(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("{", "run.json is damaged"),
        ('{"model": {"name": "a"}, "settings": {}}', "run.json describes no task"),
        ('{"model": {"name": "a"}, "settings": {}, "task": {"name": "sing"}}', "the task 'sing'"),
        ('{"model": {"name": "a"}, "settings": {}, "task": {"name": "classify", "x": 1, '
         '"labels": []}}', "run.json describes no task"),
    ],
)  # fmt: skip
def test_a_damaged_run_json(tmp_path: Path, change: str, said: str) -> None:
    (tmp_path / "run.json").write_text(change)
    with pytest.raises(GemkitError, match=said) as caught:
        run_task(tmp_path)
    assert isinstance(caught.value, CheckpointError | UsageError)
    assert "\n" not in str(caught.value)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    write(tmp_path / "file", "x")
    (tmp_path / "folder.tsv").mkdir()
    for name, said in {
        "out.xls": "has the suffix '.xls'; expected one of .tsv", "out": "has the suffix ''",
        "folder.tsv": "is a folder", "file/out.tsv": "Not a directory",
    }.items():  # fmt: skip
        with pytest.raises(GemkitError, match=said):
            check_writable(tmp_path / name)
    check_writable(tmp_path / "new" / "folders" / "out.tsv")
    check_writable(Path("/dev/stdout"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.tsv"]


def test_nothing_is_read_when_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="suffix"):
        predict_file(tmp_path / "no run", tmp_path / "no file", tmp_path / "out.xls")
