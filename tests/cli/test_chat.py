"""chat: turns, commands, Ctrl-C, and a history that fits the context."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import small

import gemkit
from gemkit.cli.commands_chat import COMMANDS, HINT, Conversation, converse
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


def talk(
    parrot: Any, *said: str | BaseException | type[BaseException], system: str | None = None
) -> Conversation:
    """Says these things, then presses Ctrl-D."""
    lines = iter((*said, EOFError))

    def ask() -> str:
        line = next(lines)
        if isinstance(line, str):
            return line
        raise line

    conversation = Conversation(parrot, system)
    converse(conversation, ask)
    return conversation


def test_answers_are_those_of_the_library(call: Any, small_model: Path, lm: Any) -> None:
    question = {"role": "user", "content": "Is the soup warm?"}
    first = lm.chat([question], max_new_tokens=6)
    history = [question, {"role": "assistant", "content": first}, question]
    second = lm.chat(history, max_new_tokens=6)
    lines = b"Is the soup warm?\n\nIs the soup warm?\n"
    done = call("chat", small_model, "--max-new-tokens", 6, stdin=lines)
    assert done == (0, f"{first}\n{second}\n", f"{HINT}\n")


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
    assert capsys.readouterr().err == (
        "gemkit: no command /rest; expected one that /help lists\n"
    )


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
    assert "(1 turn forgotten: beyond the context)" in capsys.readouterr().err


def test_a_question_beyond_the_context_ends_nothing(
    lm: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    conversation = talk(Parrot(lm), "word " * small.CONTEXT, "a")
    assert [message["content"] for message in conversation.messages] == ["a", "a "]
    assert capsys.readouterr().err == "gemkit: the prompt is too long\n"


def test_the_system_text_stays(lm: Any) -> None:
    parrot = Parrot(lm)
    lines = [f"{number} warm soup today" for number in range(12)]
    conversation = talk(parrot, *lines, "/reset", "again", system="Be brief.")
    assert all(messages[0]["content"] == "Be brief." for messages in parrot.heard)
    assert len(parrot.heard[11]) < 23
    assert [message["content"] for message in conversation.messages] == [
        "Be brief.", "again", "again "
    ]  # fmt: skip


def test_the_system_text_reaches_the_model(call: Any, small_model: Path, lm: Any) -> None:
    question = {"role": "user", "content": "Is the soup warm?"}
    system = {"role": "system", "content": "The soup is cold."}
    flags = ["--max-new-tokens", 6]
    done = call("chat", small_model, "--system", system["content"], *flags,
                stdin=b"Is the soup warm?\n")  # fmt: skip
    assert done.out == lm.chat([system, question], max_new_tokens=6) + "\n"
    assert done.out != lm.chat([question], max_new_tokens=6) + "\n"


def test_a_conversation_is_saved_and_goes_on(
    lm: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "한.json"
    first = talk(Parrot(lm), "뜨거운 수프", f"/save {file}", "b", f"/save {file}", system="Hi")
    assert json.loads(file.read_text("utf-8")) == first.messages
    assert "뜨거운" in file.read_text("utf-8") and os.listdir(tmp_path) == [file.name]
    parrot = Parrot(lm)
    again = talk(parrot, "never mind", f"/load {file}", "c")
    assert again.messages[:-2] == first.messages and len(first.messages) == 5
    assert parrot.heard[1] == [*first.messages, {"role": "user", "content": "c"}]
    assert capsys.readouterr().err == (
        f"1 turn saved in {file}\n2 turns saved in {file}\n2 turns loaded from {file}\n"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"x = 1\n", "is not JSON; expected a conversation that /save wrote"),
        (b"3", "message 0 is '3'"),
        (b"{}", "message 0 is '{}'"),
        (b"[]", "0 messages without a user's"),
        (b'[{"role": "system", "content": "x"}]', "1 messages without a user's"),
        (b'[{"role": "user", "content": "x"}]', "ends with a question; expected an answer last"),
        (b'[{"role": "assistant", "content": "x"}]', "message 0 has the role 'assistant'"),
        (b'[{"role": "user"}]', "message 0 has the content 'None'"),
        (b"\xff", "is not UTF-8"),
        (None, "No such file"),
    ],
)
def test_files_that_hold_no_conversation(
    lm: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, said: str
) -> None:
    file = tmp_path / "a.json"
    lines = [f"/load {file}"]
    if content is not None:
        file.write_bytes(content)
        lines.append(f"/save {file}")
    conversation = talk(Parrot(lm), "a", *lines)
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == len(lines)
    assert all(line.startswith("gemkit: ") and said in line for line in errors), errors
    assert [message["content"] for message in conversation.messages] == ["a", "a "]
    assert content is None or file.read_bytes() == content


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/save", "gemkit: /save; expected /save FILE"),
        ("/load ", "gemkit: /load; expected /load FILE"),
        ("/reset now", "gemkit: /reset now; expected /reset"),
        ("/save a\0b", "gemkit: the file is 'a\\x00b'; expected a name"),
        ("/save /dev/null/a", "gemkit: cannot write /dev/null/a: "),
        ("/", "gemkit: no command /; expected one that /help lists"),
    ],
)
def test_commands_used_wrongly(
    lm: Any, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    conversation = talk(Parrot(lm), "a", line)
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert len(conversation.messages) == 2


def test_nothing_to_save(lm: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk(Parrot(lm), f"/save {tmp_path / 'a'}", system="Hi")
    assert capsys.readouterr().err.startswith("gemkit: nothing was said yet")
    assert os.listdir(tmp_path) == []


def test_help_names_every_command(lm: Any, capsys: pytest.CaptureFixture[str]) -> None:
    talk(Parrot(lm), "/help")
    told = capsys.readouterr().err
    assert [line.split()[0] for line in told.splitlines()[:-1]] == list(COMMANDS)
    assert "Ctrl-C" in told and "Ctrl-D" in told


def test_lines_that_are_no_text(call: Any, small_model: Path, lm: Any) -> None:
    answer = lm.chat([{"role": "user", "content": "hello"}], max_new_tokens=6)
    done = call("chat", small_model, "--max-new-tokens", 6, stdin=b"a\xff\nhello\n")
    assert (done.code, done.out) == (0, f"{answer}\n")
    assert done.err == f"{HINT}\ngemkit: this line is not UTF-8; expected text in UTF-8\n"


def test_a_vocabulary_without_turns(
    call: Any, fails: Any, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gemkit.text.tokenizer import Tokenizer

    monkeypatch.setattr(Tokenizer, "__contains__", lambda self, piece: False)
    fails(call("chat", small_model, stdin=b"hello\n"), "the vocabulary has no piece")
