"""From files to findings, and what a model is asked."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import small

import gemkit
from gemkit.diagnosis.checks import CHECKS
from gemkit.diagnosis.doctor import doctor, examine, outline
from gemkit.diagnosis.material import Finding
from gemkit.errors import DataError, UsageError
from gemkit.tasks import Classify, make_task


def by_name(findings: list[Finding]) -> Mapping[str, Finding]:
    assert [finding.check for finding in findings] == list(CHECKS)
    return {finding.check: finding for finding in findings}


def written(path: Path, *rows: str) -> Path:
    path.write_text(small.table(40) + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def test_sound_files(small_model: Path, tmp_path: Path) -> None:
    found = by_name(doctor(gemkit.load(small_model), Classify(), written(tmp_path / "a.tsv")))
    assert {name for name, finding in found.items() if finding.severity == "error"} == set()
    assert "(good) to 20 (bad)" in found["labels"].summary
    assert found["rows"].total == 40


def test_faults_have_file_and_line(small_model: Path, tmp_path: Path) -> None:
    data = written(
        tmp_path / "a.tsv", "40\t\tgood", "41\tThe <eos> soup.\tbad", "42\tone field too few",
        f"43\t{'The warm soup. ' * 40}\tgood",
    )  # fmt: skip
    valid = tmp_path / "b.tsv"
    valid.write_text("comment\tlabel\nThe <eos> soup.\tgood\nThe tea.\tfair\n", encoding="utf-8")
    found = by_name(doctor(gemkit.load(small_model), Classify(), data, valid))
    rows = found["rows"]
    assert (rows.severity, rows.count, rows.where) == ("error", 3, f"{data}:44")
    assert rows.summary.endswith("cannot be used: 2 fields, '42' first")
    assert found["context"].where == f"{data}:45"
    assert found["context"].text.startswith("The warm soup. The warm")
    assert (found["special tokens"].where, found["special tokens"].count) == (f"{data}:43", 2)
    shared = found["train and valid"]
    assert (shared.severity, shared.count, shared.total) == ("error", 1, 1)
    assert shared.where == f"{valid}:2"


def test_a_shorter_length_counts(small_model: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "a.tsv")
    found = by_name(examine(outline(small_model), Classify(), data, max_length=8))
    assert found["context"].count == 40
    with pytest.raises(UsageError, match="max_length is 0"):
        examine(outline(small_model), Classify(), data, max_length=0)


def test_what_cannot_be_read_at_all(small_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        examine(outline(small_model), Classify(), tmp_path / "none.tsv")


def test_an_outline_is_what_loading_gives(small_model: Path) -> None:
    lm, found = gemkit.load(small_model), outline(small_model)
    assert found.context == lm.config.max_positions
    assert found.tokenizer.proto == lm.tokenizer.proto


def test_a_run_with_an_adapter_is_refused(small_model: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UsageError, match="already carries an adapter.*name its base"):
        outline(tmp_path)
    (tmp_path / "model").symlink_to(small_model)
    assert outline(tmp_path).context == small.CONTEXT


SAMPLES = Path(gemkit.__file__).parent / "samples"


@pytest.mark.parametrize(
    ("task", "data"),
    [("classify", "reviews/train.tsv"), ("instruct", "instruct/train.jsonl"),
     ("chat", "chat/train.jsonl"), ("translate", "translate/train.tsv"), ("complete", "complete"),
     ("text", "text")],
)  # fmt: skip
def test_the_samples_of_all_tasks_are_sound(task: str, data: str) -> None:
    found = examine(outline("nano"), make_task(task), SAMPLES / data)
    assert [finding for finding in found if finding.severity != "ok"] == []
    assert found[0].total > 2


def test_gaps_are_shown_by_file_and_line(tmp_path: Path) -> None:
    code = "def add(a, b):\n    return a + b\n\n\nprint(add(1, 2))  # <|fim_middle|>\n"
    (tmp_path / "a.py").write_text(code, encoding="utf-8")
    found = by_name(examine(outline("nano"), make_task("complete"), tmp_path))
    special = found["special tokens"]
    assert special.severity == "warning"
    assert re.fullmatch(rf"{re.escape(str(tmp_path))}/a\.py:[1-5]", special.where)


def test_pieces_of_a_text_share_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A long story. " * 200 + "<eos>", encoding="utf-8")
    found = by_name(examine(outline("nano"), make_task("text"), tmp_path, max_length=64))
    assert found["special tokens"].where == f"{tmp_path / 'a.txt'}"
    assert found["special tokens"].count == 1 and found["rows"].total > 5
    assert found["context"].severity == found["end of turn"].severity == "ok"


class TwoEach(Classify):
    """A task with more than one example a row."""

    def examples(self, *given: Any) -> Any:
        return [example for example in super().examples(*given) for _ in range(2)]


def test_several_examples_of_a_row_share_its_place(small_model: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "a.tsv", "40\tThe <eos> soup.\tbad")
    found = by_name(examine(outline(small_model), TwoEach(), data))
    assert (found["special tokens"].count, found["special tokens"].where) == (1, f"{data}:42")
    assert found["duplicates"].count >= 41
