"""Conversations: what is learnt, what is asked, which rows are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemkit.errors import DataError
from gemkit.tasks import Chat
from gemkit.text.chat import chat_ids
from gemkit.text.tokenizer import Tokenizer

Write = Callable[..., Path]


def turns(*said: str, first: str = "user") -> list[dict[str, str]]:
    roles = ["user", "assistant"] if first == "user" else ["assistant", "user"]
    return [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)]


LONG = [{"role": "system", "content": "Be kind."}, *turns("a", "warm", "b", " fresh ")]


def test_only_the_assistants_turns_are_learnt(jsonl: Write, words: Tokenizer) -> None:
    table = Chat().read(jsonl({"messages": LONG}))
    (example,) = Chat().fitted(table).examples(words, table, 400)
    ids = [token for token, own in zip(example.ids, example.target, strict=True) if own]
    assert words.decode(ids, skip_special=False) == "warm<end_of_turn>fresh<end_of_turn>"
    assert example.ids.count(words.bos_id) == 1 and example.ids[0] == words.bos_id
    assert example.target[-1] and example.ids[-1] == words.end_of_turn_id
    assert example.ids == chat_ids(words, LONG, add_generation_prompt=False)[0][: len(example.ids)]


def test_asked_for_is_the_last_answer_or_the_next(jsonl: Write, words: Tokenizer) -> None:
    task = Chat(messages="messages")
    table = task.read(jsonl({"messages": LONG}, {"messages": turns("a", "b", "c")}))
    again, following = task.prompts(words, table, 400)
    assert again == chat_ids(words, LONG[:-1])[0]
    assert following == chat_ids(words, turns("a", "b", "c"))[0]
    assert task.shown(table.part([0])) == [("b", "fresh")]
    assert task.column == "answer"


def test_text_parts_and_json_in_a_tsv(tmp_path: Path, words: Tokenizer) -> None:
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]
    row = json.dumps([{"role": "user", "content": parts}, {"role": "assistant", "content": "c"}])
    (tmp_path / "a.tsv").write_text(f"id\tmessages\n1\t{row}\n")
    table = Chat().read(tmp_path / "a.tsv")
    task = Chat().fitted(table)
    assert task.shown(table) == [("ab", "c")]
    assert len(task.examples(words, table, 400)) == 1


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ("hello", "line 1: no list of messages"),
        ([1], "line 1: no list of messages"),
        (None, "line 1: no list of messages"),
        ([], "line 1: "),
        (turns("a"), "line 1: the last turn is not an answer"),
        (turns("a", "b", "c"), "line 1: the last turn is not an answer"),
        (turns("a", "b", first="assistant"), "line 1: message 0 has the role 'assistant'"),
        ([{"role": "tool", "content": "x"}], "line 1: message 0 has the role 'tool'"),
        ([{"role": "user", "content": 3}, *turns("a", "b")[1:]], "line 1: message 0 has the cont"),
    ],
)
def test_rows_that_are_no_conversation(
    jsonl: Write, words: Tokenizer, messages: Any, said: str
) -> None:
    good = {"messages": turns("a", "b")}
    table = Chat().read(jsonl({"messages": messages}, good))
    task = Chat().fitted(table)
    with pytest.raises(DataError, match=said):
        task.examples(words, table, 400)
    assert task.without_bad_rows(words, table, 400, labelled=True).lines == [2]
    with pytest.raises(DataError, match="line 2: the conversation is .* tokens long"):
        task.examples(words, table.part([1]), 5)
