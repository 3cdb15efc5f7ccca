"""explain: which code is asked about, and Markdown rendered as it comes."""

import doctest
import json
import os
import pty
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gemkit
from gemkit.cli import commands_explain
from gemkit.cli.commands_explain import blocks

ANSWER = "# A sum\n\n1. It adds:\n\n```python\nx = 1\n\ny = 2\n```\n\nIt prints **3**.\n"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What the model is asked; it answers with ANSWER."""
    questions: list[tuple[str, dict[str, Any]]] = []

    def stream_explain(self: Any, code: str, language: str = "", **settings: Any) -> Iterator[str]:
        questions.append((code, {"language": language, **settings}))
        yield from (ANSWER[start : start + 4] for start in range(0, len(ANSWER), 4))

    monkeypatch.setattr(gemkit.LanguageModel, "stream_explain", stream_explain)
    return questions


def test_a_file_some_lines_of_it_or_standard_input(
    call: Any, small_model: Path, tmp_path: Path, asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.py").write_bytes("é = 1\r\nb = 2\r\nc = 3\r\n".encode("utf-8-sig"))
    Path("b:2").write_text("d = 4\n")
    for place in ("a.py", "a.py:2", "a.py:2-3", "b:2", "-"):
        done = call("explain", small_model, place, stdin=b">>> 1\n1\n")
        assert done == (0, f"{ANSWER}\n", "")
    assert [code for code, _ in asked] == [
        "é = 1\nb = 2\nc = 3\n", "b = 2", "b = 2\nc = 3", "d = 4\n", ">>> 1\n1"
    ]  # fmt: skip


def test_settings_reach_the_model(call: Any, small_model: Path, asked: Any) -> None:
    flags = ["--language", "Korean", "--max-new-tokens", 5, "--temperature", 0.5, "--stop", "x"]
    done = call("explain", small_model, "-", *flags, "--json", stdin=b"x = 1\n")
    assert json.loads(done.out) == {"explanation": ANSWER}
    assert asked[0][1] == {
        "language": "Korean", "max_new_tokens": 5, "temperature": 0.5, "stop": ("x",)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("place", "stdin", "said", "code"),
    [
        ("none.py", b"", "cannot read none.py: No such file", 1),
        ("none.py:1", b"", "cannot read none.py: No such file", 1),
        (".", b"", "cannot read .: Is a directory", 1),
        ("a.py:0", b"", "line 0 of a.py; expected 1 to 2", 2),
        ("a.py:1-9", b"", "line 9 of a.py", 2),
        ("a.py:2-1", b"", "lines 2-1 of a.py", 2),
        ("binary.py", b"", "binary.py is binary: byte 0 is 0", 1),
        ("-", b"\xff", "byte 0 of standard input is not UTF-8", 1),
        ("-", b"", "the code is empty; expected some lines of code", 1),
        ("-", b">>>\n", "the code is empty", 1),
        ("-", b"x = 1\n" * 999, "tokens long; expected at most 96", 1),
    ],
)
def test_code_that_is_not_there(
    call: Any, fails: Any, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    place: str, stdin: bytes, said: str, code: int,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "binary.py").write_bytes(b"\0")
    fails(call("explain", small_model, place, stdin=stdin), said, code)


WHOLE = ["# A sum", "1. It adds:", "```python\nx = 1\n\ny = 2\n```", "It prints **3**."]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_blocks_end_at_blank_lines_outside_code(size: int) -> None:
    pieces = [ANSWER[start : start + size] for start in range(0, len(ANSWER), size)]
    found = list(blocks(pieces))
    assert [block for block, whole in found if whole] == WHOLE
    ends = {block for block, whole in found if whole}
    assert all(any(end.startswith(block.strip("\n")) for end in ends) for block, _ in found)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("", []), ("\n\n", []), ("a", ["a"]), ("a\n\n\n\nb\n", ["a", "b"]),
        ("```\na\n\nb", ["```\na\n\nb"]),
        ("````\n```\n\nx\n````\n\nb", ["````\n```\n\nx\n````", "b"]),
        ("~~~\n```\n\n~~~\n\nb", ["~~~\n```\n\n~~~", "b"]),
        ("```a\n```b\n\n```\n\nc", ["```a\n```b\n\n```", "c"]),
    ],
)  # fmt: skip
def test_where_blocks_end(text: str, whole: list[str]) -> None:
    assert [block for block, done in blocks([text]) if done] == whole


def test_a_terminal_gets_rendered_markdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the user sees it: no marks of Markdown are left, nothing is shown twice."""
    master, slave = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    with os.fdopen(slave, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        commands_explain.render(["# A \x1b[2Jsum\n\nIt prints **3**.\n"])
        terminal.flush()
        shown = os.read(master, 65536).decode("utf-8")
    os.close(master)
    assert "It prints" in shown and "**" not in shown and "# A" not in shown
    assert "\x1b[2J" not in shown


def test_blocks_are_one_blank_line_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists, quotes and tables too, which bring one along."""
    master, slave = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(slave, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        commands_explain.render(["One\n\n1. two\n\n- three\n\n> four\n\nfive"])
        terminal.flush()
        shown = os.read(master, 65536).decode("utf-8")
    os.close(master)
    plain = re.sub(r"\r|\x1b\[[\d;?]*[A-Za-z]", "", shown)
    lines = plain.split("\n")
    words = ("One", "two", "three", "four")
    places = [max(n for n, line in enumerate(lines) if word in line) for word in words]
    assert [b - a for a, b in zip(places, places[1:], strict=False)] == [2, 2, 2]


def test_examples() -> None:
    result = doctest.testmod(commands_explain)
    assert (result.failed, result.attempted > 0) == (0, True)
