"""Instructions: columns, context, templates, targets, and the answers' ends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemkit.errors import DataError, UsageError
from gemkit.tasks import Instruct
from gemkit.text.chat import chat_ids
from gemkit.text.tokenizer import Tokenizer
from gemkit.train.packing import Example

Write = Callable[..., Path]
PLAIN = {"instruction": "Say hi. ", "context": "", "response": " hi", "category": "open_qa"}
ABOUT = {"instruction": "Who?", "context": "I am here.", "response": "I", "category": "closed_qa"}


def learnt(tokenizer: Tokenizer, example: Example) -> str:
    ids = [token for token, is_target in zip(example.ids, example.target, strict=True) if is_target]
    return tokenizer.decode(ids, skip_special=False)


def read(jsonl: Write, *rows: dict[str, Any], **settings: Any) -> tuple[Any, Instruct]:
    task = Instruct(**settings)
    table = task.read(jsonl(*rows))
    return table, task.fitted(table)


def test_dolly_rows_as_they_come(jsonl: Write, words: Tokenizer) -> None:
    table, task = read(jsonl, PLAIN, ABOUT)
    assert (task.prompt, task.response, task.context) == ("instruction", "response", "context")
    first, second = task.examples(words, table, 400)
    assert words.decode(first.ids) == "Instruction:\nSay hi.\n\nResponse:\nhi"
    assert (
        words.decode(second.ids)
        == "Instruction:\nWho?\n\nContext:\nI am here.\n\nResponse:\nI"
    )
    assert [learnt(words, example) for example in (first, second)] == ["hi<eos>", "I<eos>"]
    assert first.ids.count(words.bos_id) == 1 == second.ids.count(words.eos_id)
    assert task.shown(table)[1] == ("Who?\n\nI am here.", "I")


def test_rows_with_context_can_be_dropped(jsonl: Write) -> None:
    table, task = read(jsonl, ABOUT, PLAIN, context_rows="drop")
    assert table.lines == [2] and table.skipped == []
    assert len(task.read(table.path, labelled=False).rows) == 2
    with pytest.raises(DataError, match="all 1 rows have context.*--context-rows keep"):
        read(jsonl, ABOUT, context_rows="drop")


def test_a_chat_model_is_asked_in_turns(jsonl: Write, words: Tokenizer) -> None:
    table, task = read(jsonl, PLAIN, ABOUT, template="chat")
    first, second = task.examples(words, table, 400)
    messages = [
        {"role": "user", "content": "Say hi."}, {"role": "assistant", "content": "hi"},
    ]  # fmt: skip
    ids, mask = chat_ids(words, messages, add_generation_prompt=False)
    end = len(first.ids)
    assert (first.ids, first.target) == (ids[:end], mask[:end])
    assert learnt(words, first) == "hi<end_of_turn>"
    assert "Who?\n\nI am here." in words.decode(second.ids)


def test_other_columns_and_no_context(jsonl: Write, words: Tokenizer) -> None:
    table, task = read(jsonl, {"question": "a", "said": "b", "input": None}, response="said")
    assert (task.prompt, task.context, task.column) == ("question", "input", "said")
    assert len(task.examples(words, table, 400)) == 1
    asked = Instruct().found(Instruct().read(jsonl({"prompt": "a"})), labelled=False)
    assert (asked.prompt, asked.column) == ("prompt", "response")


@pytest.mark.parametrize(
    ("row", "settings", "error", "said"),
    [
        ({"a": 1, "b": 2}, {}, UsageError, "which one is the prompt; pass --prompt COLUMN"),
        ({"prompt": "a", "b": 2}, {}, UsageError, "which one is the response"),
        (PLAIN, {"context": "about"}, DataError, "no column 'about'.*--context"),
        (PLAIN, {"prompt": "response"}, UsageError, "both prompt and response"),
        ({**PLAIN, "response": " "}, {}, DataError, "line 1: the response is empty"),
        ({**PLAIN, "instruction": ""}, {}, DataError, "line 1: the instruction is empty"),
    ],
)
def test_rows_that_cannot_be_used(
    jsonl: Write, words: Tokenizer, row: Any, settings: Any, error: Any, said: str
) -> None:
    with pytest.raises(error, match=said):
        table, task = read(jsonl, row, **settings)
        task.examples(words, table, 400)


def test_long_rows_are_refused_or_counted_never_cut(jsonl: Write, words: Tokenizer) -> None:
    long = {**PLAIN, "response": "hi" * 90}
    table, task = read(jsonl, PLAIN, long)
    short = len(task.examples(words, table.part([0]), 400)[0].ids)
    with pytest.raises(DataError, match=rf"line 2: .* tokens long; expected at most {short}"):
        task.examples(words, table, short)
    kept = task.without_bad_rows(words, table, short, labelled=True)
    assert (kept.lines, [bad.line for bad in kept.skipped]) == ([1], [2])
    asked = task.without_bad_rows(words, table, 2 * short, labelled=False)
    assert asked.lines == [1, 2]


def test_prompts_leave_room_for_an_answer(jsonl: Write, words: Tokenizer) -> None:
    table, task = read(jsonl, PLAIN)
    assert task.room(1600) == 1500 and Instruct(max_new_tokens=10).room(1600) == 1590
    length = len(task.prompts(words, table, 400)[0])
    with pytest.raises(DataError, match=f"line 1: the prompt is {length} tokens long"):
        task.prompts(words, table, length - 1)
