"""chat: turns, commands, Ctrl-C, and a history that fits the context."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import small

import gemkit
from gemkit.cli.commands_chat import HELP, Conversation, converse
from gemkit.errors import GenerationError
from gemkit.text.chat import chat_ids


class Parrot:
    """Answers with the last words it was told; `stop_after` pieces Ctrl-C is pressed."""

    def __init__(self, lm: gemkit.LanguageModel, stop_after: int | None = None) -> None:
        self.config, self.tokenizer = lm.config, lm.tokenizer
        self.stop_after = stop_after
        self.heard: list[list[dict[str, str]]] = []

    def stream_chat(self, messages: list[dict[str, str]], **settings: Any) -> Iterator[str]:
        self.heard.append([dict(message) for message in messages])
        if len(chat_ids(self.tokenizer, messages)[0]) >= self.config.max_positions:
            raise GenerationError("the prompt is too long")
        for number, word in enumerate(messages[-1]["content"].split()):
            if number == self.stop_after:
                raise KeyboardInterrupt
            yield f"{word} "


@pytest.fixture(scope="module")
def lm(small_model: Path) -> gemkit.LanguageModel:
    return gemkit.load(small_model)


def talk(parrot: Any, *said: str | type[BaseException]) -> Conversation:
    """Says these things, then presses Ctrl-D."""
    lines = iter((*said, EOFError))

    def ask() -> str:
        line = next(lines)
        if isinstance(line, str):
            return line
        raise line

    conversation = Conversation(parrot, {})
    converse(conversation, ask)
    return conversation


def test_answers_are_those_of_the_library(call: Any, small_model: Path, lm: Any) -> None:
    question = {"role": "user", "content": "Is the soup warm?"}
    first = lm.chat([question], max_new_tokens=6)
    history = [question, {"role": "assistant", "content": first}, question]
    second = lm.chat(history, max_new_tokens=6)
    lines = b"Is the soup warm?\n\nIs the soup warm?\n"
    done = call("chat", small_model, "--max-new-tokens", 6, stdin=lines)
    assert done == (0, f"{first}\n{second}\n", f"{HELP}\n")


def test_history_and_its_end(lm: Any, capsys: pytest.CaptureFixture[str]) -> None:
    parrot = Parrot(lm)
    conversation = talk(parrot, "a b", " c ", "/reset", "d", "/quit", "never")
    assert [len(messages) for messages in parrot.heard] == [1, 3, 1]
    assert parrot.heard[1][1] == {"role": "assistant", "content": "a b "}
    assert [message["content"] for message in conversation.messages] == ["d", "d "]
    assert capsys.readouterr().out == "a b \nc \nd \n"


def test_unknown_commands_are_not_said_to_the_model(
    lm: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    parrot = Parrot(lm)
    talk(parrot, "/rest now")
    assert parrot.heard == []
    assert capsys.readouterr().err == f"no command /rest; {HELP}\n"


def test_ctrl_c_stops_an_answer_and_keeps_the_session(lm: Any) -> None:
    parrot = Parrot(lm, stop_after=1)
    conversation = talk(parrot, KeyboardInterrupt, "a b c", KeyboardInterrupt, "d e")
    contents = [message["content"] for message in conversation.messages]
    assert contents == ["a b c", "a ", "d e", "d "]


def test_a_question_that_was_not_answered_is_forgotten(lm: Any) -> None:
    conversation = talk(Parrot(lm, stop_after=0), "a", "b")
    assert conversation.messages == []


def test_old_turns_leave_room_for_an_answer(lm: Any, capsys: pytest.CaptureFixture[str]) -> None:
    parrot = Parrot(lm)
    talk(parrot, *[f"{number} warm soup today" for number in range(12)])
    lengths = [len(chat_ids(lm.tokenizer, messages)[0]) for messages in parrot.heard]
    assert max(lengths) <= small.CONTEXT * 3 // 4 < sum(lengths)
    for number, messages in enumerate(parrot.heard):
        assert [m["role"] for m in messages] == ["user", "assistant"] * (len(messages) // 2) + [
            "user"
        ]
        assert messages[-1]["content"].startswith(f"{number} ")
    assert len(parrot.heard[-1]) > 1
    assert "(1 turn is beyond the context and forgotten)" in capsys.readouterr().err


def test_a_question_beyond_the_context_ends_nothing(
    lm: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    conversation = talk(Parrot(lm), "word " * small.CONTEXT, "a")
    assert [message["content"] for message in conversation.messages] == ["a", "a "]
    assert capsys.readouterr().err == "gemkit: the prompt is too long\n"


def test_a_vocabulary_without_turns(
    call: Any, fails: Any, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gemkit.text.tokenizer import Tokenizer

    monkeypatch.setattr(Tokenizer, "__contains__", lambda self, piece: False)
    fails(call("chat", small_model, stdin=b"hello\n"), "the vocabulary has no piece")
