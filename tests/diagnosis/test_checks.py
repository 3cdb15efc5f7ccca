"""Each check fires on what it is for and is silent on sound data."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest
from toy_vocabulary import small_vocabulary

from gemkit.diagnosis.checks import CHECKS
from gemkit.diagnosis.material import Case, Material
from gemkit.train.packing import Example

TOKENIZER = small_vocabulary()
BOS, EOS = TOKENIZER.bos_id, TOKENIZER.eos_id
START, END = TOKENIZER.token_to_id("<start_of_turn>"), TOKENIZER.token_to_id("<end_of_turn>")


def case(
    number: int, text: str = "", answer: str = "good", label: str | None = None,
    ids: list[int] | None = None, learnt: int | None = None,
) -> Case:  # fmt: skip
    """A row of train.tsv; `learnt`: how many of the last ids are targets."""
    text = text or f"soup {number}"
    end = [*TOKENIZER.encode(answer), EOS]
    ids = [BOS, *TOKENIZER.encode(text), *end] if ids is None else ids
    learnt = len(end) if learnt is None else learnt
    marks = [False] * (len(ids) - learnt) + [True] * learnt
    return Case(Example(ids, marks), f"train.tsv:{number + 2}", text, text, label)


SOUND = Material(
    TOKENIZER, 64, 256, False,
    [case(i, answer=label, label=label) for i, label in enumerate(["good", "bad"] * 6)],
    [dataclasses.replace(case(i), where=f"valid.tsv:{i}") for i in range(40, 44)],
)  # fmt: skip


def added(*more: Case) -> Material:
    return dataclasses.replace(SOUND, train=[*SOUND.train, *more])


def validated(*more: Case) -> Material:
    return dataclasses.replace(SOUND, valid=[*SOUND.valid, *more])


TURN = case(50, ids=[BOS, START, 300, END, START, 301, END], learnt=2)
UNLEARNT_TURN = dataclasses.replace(
    TURN, example=Example(TURN.example.ids, [False] * 5 + [True, False])
)
LONG = case(50, "soup " * 80)
# Name → material with a fault, severity, rows concerned, what is said, the row shown.
FAULTS: dict[str, tuple[Material, str, int, str, str]] = {
    "rows": (
        dataclasses.replace(SOUND, unusable=[("train.tsv:9", "the text is empty")]),
        "error", 1, "1 row of 17 cannot be used: the text is empty", "train.tsv:9",
    ),
    "context": (
        added(case(51, "soup " * 58), LONG),
        "error", 2, "2 rows exceed 64 tokens; the longest has", "train.tsv:52",
    ),
    "beginning of text": (
        added(case(50, ids=[300, EOS], learnt=1), case(51, ids=[BOS, BOS, 300, EOS], learnt=1)),
        "error", 2, "missing in 1 row, twice or more in 1 row", "train.tsv:52",
    ),
    "end of turn": (
        added(UNLEARNT_TURN, case(51, ids=[BOS, 300, 301], learnt=1)),
        "error", 2, "not learnt in 1 row, missing in 1 row", "train.tsv:52",
    ),
    "answers": (
        added(LONG, case(51, ids=[BOS, 300, EOS], learnt=0)),
        "error", 2, "no token of the answer is left in 64 tokens in 2 rows", "train.tsv:52",
    ),
    "chat template": (added(TURN), "warning", 1, "chat turns in 1 row; this base", "train.tsv:52"),
    "special tokens": (
        added(case(50, "warm <end_of_turn> soup <end_of_turn>")),
        "warning", 1, "spelt in 1 row: <end_of_turn> 2 times", "train.tsv:52",
    ),
    "duplicates": (added(case(0), case(0)), "warning", 2, "2 rows repeat another", "train.tsv:2"),
    "contradictions": (
        added(case(0, answer="bad")), "warning", 2, "answers differ in 2 rows, for", "train.tsv:2"
    ),
    "train and valid": (
        validated(case(3, answer="bad")), "error", 1, "1 row of 5 to validate", "train.tsv:5"
    ),
    "labels": (
        added(case(50, label="fair")), "warning", 1,
        "3 labels, from 6 rows (good) to 1 (fair); always 'good' would be right in 46%",
        "train.tsv:52",
    ),
    "padding": (
        dataclasses.replace(SOUND, train=[case(0, ids=[BOS] + [300] * 259)], most=512),
        "warning", 1, "32% of the slots packed, as here; 0% padded to the longest", "train.tsv:2",
    ),
}  # fmt: skip


def test_there_is_a_fault_for_every_check() -> None:
    assert list(FAULTS) == list(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_sound_data_passes(name: str) -> None:
    found = CHECKS[name](SOUND)
    assert (found.severity, found.count, found.where, found.todo) == ("ok", 0, "", "")
    assert found.summary


@pytest.mark.parametrize("name", CHECKS)
def test_faults_are_found_and_shown(name: str) -> None:
    material, severity, count, said, where = FAULTS[name]
    found = CHECKS[name](material)
    assert (found.severity, found.count, found.where) == (severity, count, where), found
    assert said in found.summary and found.todo
    assert found.text or name == "rows"


@pytest.mark.parametrize("name", [name for name in CHECKS if name != "rows"])
def test_no_rows_are_no_fault(name: str) -> None:
    assert CHECKS[name](dataclasses.replace(SOUND, train=(), valid=())).severity == "ok"


@pytest.mark.parametrize(
    ("knows", "severity", "said"),
    [(True, "ok", "the model knows"), (None, "ok", "nothing tells"), (False, "warning", "base")],
)
def test_chat_turns_and_what_the_model_knows(knows: Any, severity: str, said: str) -> None:
    found = CHECKS["chat template"](dataclasses.replace(added(TURN), knows_turns=knows))
    assert found.severity == severity and said in found.summary


def test_running_text_needs_no_end() -> None:
    """A long document comes in parts; only the last ends."""
    part = case(50, ids=[BOS, 300, 301], learnt=2)
    assert CHECKS["end of turn"](added(part)).severity == "ok"


def test_of_a_chat_the_last_answer_counts() -> None:
    def chat(*answers: int) -> Case:
        ids, marks = [BOS], [False]
        for number, answer in enumerate(answers):
            ids += [START, 300 + number, END, START, answer, END]
            marks += [False] * 4 + [True] * 2
        return Case(Example(ids, marks), "train.jsonl:1", "", "", None)

    one, other, longer = chat(310, 311), chat(310, 312), chat(310, 311, 310)
    assert one.question == other.question != longer.question
    assert one.runs() == [(5, 7), (11, 13)]
    found = CHECKS["contradictions"](dataclasses.replace(SOUND, train=[one, other, longer]))
    assert (found.severity, found.count) == ("warning", 2)


@pytest.mark.parametrize(("shared", "severity"), [(1, "warning"), (9, "error")])
def test_a_few_equal_rows_may_be_chance(shared: int, severity: str) -> None:
    valid = [*map(case, range(shared)), *map(case, range(100, 200 - shared))]
    found = CHECKS["train and valid"](dataclasses.replace(SOUND, valid=valid))
    assert (found.severity, found.count) == (severity, shared)


@pytest.mark.parametrize(
    ("counts", "severity"), [((50, 6), "ok"), ((70, 6), "warning"), ((8, 4), "warning")]
)
def test_when_a_label_is_rare(counts: tuple[int, int], severity: str) -> None:
    train = [case(i, label="a") for i in range(counts[0])]
    train += [case(200 + i, label="b") for i in range(counts[1])]
    assert CHECKS["labels"](dataclasses.replace(SOUND, train=train)).severity == severity


def test_padding_is_counted() -> None:
    train = [case(i, ids=[BOS, *[300] * (n - 2), EOS]) for i, n in enumerate([64] * 7 + [32] * 2)]
    said = CHECKS["padding"](dataclasses.replace(SOUND, train=train)).summary
    # 512 tokens: eight whole rows of 64; padded nine.
    expected = (0, round(100 * (1 - 512 / (9 * 64))), round(100 * (1 - 512 / (9 * 512))))
    assert tuple(map(int, re.findall(r"(\d+)%", said))) == expected


def test_what_is_longer_than_usual_is_not_padded() -> None:
    train = [case(0, ids=[BOS, *[300] * 599]), case(1)]
    said = CHECKS["padding"](dataclasses.replace(SOUND, train=train, most=1024)).summary
    assert said.endswith("(600 tokens), to 512 it would cut off 1 row")


@pytest.mark.parametrize("check", CHECKS.values())
def test_checks_say_what_they_want(check: Callable[..., Any]) -> None:
    assert check.__doc__
