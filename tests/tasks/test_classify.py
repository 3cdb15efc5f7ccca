"""Columns, labels, prompts and bad rows of classification; answers are tested in test_run.py."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import small

import gemkit
from gemkit.errors import DataError, UsageError
from gemkit.tasks import Classify
from gemkit.tasks.classify import MOST_LABELS
from gemkit.text.tokenizer import Tokenizer
from gemkit.train.data import Table, read_table


@pytest.fixture(scope="module")
def tokenizer(small_model: Path) -> Tokenizer:
    return Tokenizer.from_file(small_model)


@pytest.fixture
def make(tmp_path: Path) -> Any:
    """make("comment label", "a b", …) → a table; blanks become tabs."""

    def table(*lines: str) -> Table:
        path = tmp_path / "a.tsv"
        path.write_text("".join(line.replace(" ", "\t") + "\n" for line in lines), "utf-8")
        return read_table(path, skip_bad_rows=True)

    return table


def test_columns_and_labels_are_found(make: Any) -> None:
    task = Classify().fitted(make("id Comment Label", "1 a good", "2 b bad", "3 c good"))
    assert task == Classify("Comment", "Label", ("bad", "good"))
    assert Classify.from_dict(task.to_dict()) == task
    assert task.truth(make("Comment Label", "a good", "b bad")) == ["good", "bad"]


def test_given_labels_keep_their_order(make: Any) -> None:
    table = make("text class", "a x", "b y")
    assert Classify(labels=("y", "x", "z")).fitted(table).labels == ("y", "x", "z")
    with pytest.raises(DataError, match="line 3: label 'y' is unknown; expected one of x, z"):
        Classify(labels=("x", "z")).fitted(table)


@pytest.mark.parametrize(
    ("lines", "task", "error", "said"),
    [
        (["a b", "1 x", "2 y"], Classify(), UsageError, "which one is the label; pass --label"),
        (["a label", "1 x", "2 y"], Classify(), UsageError, "which one is the text; pass --text"),
        (["text review label", "1 2 x", "1 2 y"], Classify(), UsageError, "is the text"),
        (["text label", "1 x", "2 y"], Classify(text="a"), DataError, "no column 'a'.*--text"),
        (["text label", "1 x", "2 y"], Classify(label="a"), DataError, "no column 'a'.*--label"),
        (["text label", "1 x", "2 y"], Classify("text", "text"), UsageError, "both text and label"),
        (["text", "1", "2"], Classify(), UsageError, "both text and label"),
        (["text label", "1 x", "2 x"], Classify(), DataError, "every label is 'x'"),
        (["text label", *(f"t {n}" for n in range(MOST_LABELS + 1))], Classify(), DataError,
         "has 201 different labels; expected at most 200; is it the right column"),
    ],
)  # fmt: skip
def test_tables_it_cannot_learn_from(
    make: Any, lines: list[str], task: Classify, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        task.fitted(make(*lines))


def test_prompt_and_answer_are_one_example(make: Any, tokenizer: Tokenizer) -> None:
    table = make("text label", "soup good", "tea bad")
    task = Classify().fitted(table)
    examples = task.examples(tokenizer, table, small.CONTEXT)
    for example, prompt, label in zip(
        examples, task.prompts(tokenizer, table, small.CONTEXT), ("good", "bad"), strict=True
    ):
        answer = [*tokenizer.encode(label), tokenizer.eos_id]
        assert example.ids == [*prompt, *answer]
        assert example.target == [False] * len(prompt) + [True] * len(answer)
        assert prompt[0] == tokenizer.bos_id and tokenizer.eos_id not in prompt
    asked = tokenizer.decode(task.prompts(tokenizer, table, small.CONTEXT)[0])
    assert asked == "soup\nLabel:\n"


def test_control_tokens_in_a_text_are_text(make: Any, tokenizer: Tokenizer) -> None:
    table = make("text label", "<eos><end_of_turn> good", "tea bad")
    prompt = Classify().fitted(table).prompts(tokenizer, table, small.CONTEXT)[0]
    assert not set(prompt[1:]) & tokenizer.special_ids


def test_a_template_may_name_the_labels(make: Any, tokenizer: Tokenizer) -> None:
    table = make("text label", "soup good", "tea bad")
    task = Classify(template="classify_labels").fitted(table)
    asked = tokenizer.decode(task.prompts(tokenizer, table, small.CONTEXT)[0])
    assert asked.startswith("Classify the text as one of: bad, good.")


def test_rows_too_long_or_empty(make: Any, tokenizer: Tokenizer) -> None:
    table = make("text label", "soup good", "teateateateateateatea bad")
    task = Classify().fitted(table)
    longest = max(map(len, task.prompts(tokenizer, table, small.CONTEXT)))
    answer = max(map(len, task.answers(tokenizer)))
    assert task.examples(tokenizer, table, longest + answer)
    with pytest.raises(DataError, match=f"line 3: .* expected at most {longest - 1}; shorten"):
        task.examples(tokenizer, table, longest + answer - 1)
    empty = dataclasses.replace(table, rows=[{"text": " ", "label": "x"}], lines=[7])
    with pytest.raises(DataError, match="line 7: the text is empty"):
        task.prompts(tokenizer, empty, small.CONTEXT)


def test_bad_rows_can_be_left_out(make: Any, tokenizer: Tokenizer) -> None:
    table = make("text label", "soup good", " good", "tea ", "torn", "tea bad")
    assert [bad.line for bad in table.skipped] == [5]
    task = Classify().found(table)
    kept = task.without_bad_rows(tokenizer, table, small.CONTEXT, labelled=True)
    assert (kept.lines, [bad.line for bad in kept.skipped]) == ([2, 6], [5, 3, 4])
    unlabelled = task.without_bad_rows(tokenizer, table, small.CONTEXT, labelled=False)
    assert unlabelled.lines == [2, 4, 6]
    with pytest.raises(DataError, match="all 4 rows are bad"):
        task.without_bad_rows(tokenizer, table, 5, labelled=True)


def test_what_is_left_after_bad_rows_can_be_trained_on(make: Any, tokenizer: Tokenizer) -> None:
    """The room for the longest answer is known before the labels are."""
    table = make("text label", "soup good", "tea splendid!", "teateateatea bad")
    task = Classify().found(table)
    for longest in range(12, 30):
        try:
            kept = task.without_bad_rows(tokenizer, table, longest, labelled=True)
        except DataError:
            continue
        if len({row["label"] for row in kept.rows}) > 1:
            assert task.fitted(kept).examples(tokenizer, kept, longest)


def test_labels_are_needed_to_predict(small_model: Path, make: Any) -> None:
    with pytest.raises(UsageError, match="the task has no labels"):
        Classify().predict(gemkit.load(small_model), make("text", "soup"))


def test_progress_is_told(small_model: Path, make: Any) -> None:
    told: list[tuple[int, int]] = []
    table = make("text", "soup", "tea")
    Classify(labels=("a", "b")).predict(
        gemkit.load(small_model), table, lambda done, total: told.append((done, total))
    )
    assert told[-1] == (2, 2)
