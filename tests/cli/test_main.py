"""Parsing, help, exit codes and the one line that says what went wrong."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from gemkit.cli import commands
from gemkit.cli.main import COMMANDS, cli, explain
from gemkit.errors import DataError, UsageError

SOURCE = Path(__file__).parents[2] / "src"
NAMES = [command.name for command in COMMANDS]


@pytest.mark.parametrize("arguments", [[], *([name] for name in NAMES)], ids=["gemkit", *NAMES])
def test_help_imports_no_jax(arguments: list[str]) -> None:
    statement = (
        "import sys\n"
        "from gemkit.cli.main import main\n"
        f"code = main({[*arguments, '--help']!r})\n"
        "heavy = {'jax', 'numpy', 'rich', 'optax', 'pyarrow'} & set(sys.modules)\n"
        "assert code == 0 and not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", statement], env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: gemkit")


def test_every_command_is_described_in_one_line(call: Any) -> None:
    listed = call("--help").out.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in listed] == NAMES
    assert not [line for line in listed if line.endswith("...")]


def test_every_option_is_described() -> None:
    context = click.Context(cli)
    options = [p for command in COMMANDS for p in command.get_params(context)]
    assert [p.name for p in options if isinstance(p, click.Option) and not p.help] == []


def test_the_program_without_arguments_and_its_version(program: Any) -> None:
    assert "Commands:" in program().out
    assert program("--version") == (0, "gemkit 0.1.0\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["genrate"], "No such command 'genrate'. Did you mean 'generate'?; see gemkit --help"),
        (["models", "--jsn"], "see gemkit models --help"),
        (["generate", "nano"], "Missing argument 'PROMPT...'"),
        (["generate", "nano", "a", "--top-k", "few"], "'few' is not a valid integer"),
        (["tune", "classify"], "Missing option '--model'"),
        (["complete", "nano"], "no place; expected FILE:LINE[:COL], or --prefix and --suffix"),
        (["complete", "nano", "a.py:1", "--prefix", "a"], "both a file and --prefix"),
        (["complete", "nano", "--prefix", "a", "--in-place"], "--in-place without a file"),
        (["complete", "nano", "a.py"], "the place is 'a.py'; expected FILE:LINE"),
        (["generate", "nano", "-", "-"], "two prompts are -"),
    ],
)
def test_wrong_usage_is_one_line_and_2(call: Any, fails: Any, arguments: Any, said: str) -> None:
    fails(call(*arguments), said, code=2)


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (DataError("a", "b", "c"), "a; expected b; c", 1),
        (UsageError("rank is 0"), "rank is 0", 2),
        (OSError(28, "No space left on device", "/x/y"), "/x/y: No space left on device", 1),
        (OSError("odd"), "odd", 1),
        (MemoryError(), "out of memory", 1),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), "out of memory", 1),
        (KeyboardInterrupt(), "interrupted", 130),
        (ValueError("first\nsecond"), "this is a bug in gemkit: ValueError: first; please", 1),
        (KeyError(), "this is a bug in gemkit: KeyError: ; please", 1),
    ],
)
def test_what_is_said_about_an_error(error: Exception, said: str, code: int) -> None:
    line, exit_code = explain(error)
    assert line.startswith(said) and "\n" not in line
    assert exit_code == code


def test_debug_shows_the_traceback(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ValueError("of ours")

    monkeypatch.setattr(commands, "_model_rows", broken)
    assert "Traceback" not in call("models").err
    for arguments in (["--debug", "models"], ["models", "--debug"]):
        done = call(*arguments)
        assert done.code == 1
        assert "Traceback" in done.err and done.err.endswith("with --debug\n")


def test_ctrl_c_is_130(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "_model_rows", interrupted)
    assert call("models") == (130, "", "gemkit: interrupted\n")


def test_a_broken_pipe_is_quiet(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "gemkit", "--help"], stdout=writer, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SOURCE)}, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
