"""The `gemkit` command: parses, dispatches, and says in one line what went wrong.

Neither this module nor printing help imports JAX: commands import what they need when they run.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence

import click

from gemkit import __version__
from gemkit.cli import (
    commands,
    commands_chat,
    commands_convert,
    commands_doctor,
    commands_explain,
    commands_fetch,
    commands_runs,
    commands_text,
    commands_tune,
)
from gemkit.cli.options import DEBUG_FLAG, Command, Group
from gemkit.errors import GemkitError

COMMANDS: tuple[Command, ...] = (
    commands.models, commands.info, commands_text.generate, commands_chat.chat,
    commands_text.complete, commands_explain.explain, commands_text.choose, commands_doctor.doctor,
    commands_tune.tune, commands_tune.predict, commands_tune.evaluate, commands_runs.runs,
    commands_convert.convert, commands_convert.merge, commands_convert.adapter,
    commands_fetch.fetch,
)  # fmt: skip

# As the shell reports programs that SIGINT and SIGPIPE ended.
INTERRUPTED, BROKEN_PIPE = 130, 141


@click.group(
    cls=Group, invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Run, tune, evaluate and serve Google's Gemma models.

    A MODEL is a preset's name (nano is built in; gemkit models lists them), a folder with a
    model, or a run directory made by gemkit tune.
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


for _command in COMMANDS:
    cli.add_command(_command)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code: 0, 1 the work failed, 2 wrong usage.

    Without `argv` it is the program, and when stopped it ends the process here: XLA's threads
    may still compute, and crash when Python takes itself down around them.
    """
    code = _main(argv)
    if argv is None and code in (INTERRUPTED, BROKEN_PIPE):
        with contextlib.suppress(OSError):
            print(end="", flush=True)
        os._exit(code)
    return code


def _main(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if sys.stdout is None:  # closed by the caller, as by >&-
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    debug = DEBUG_FLAG in arguments
    try:
        code = _run(arguments, debug)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Python flushes stdout once more at the end and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        line, code = explain(error)
        if code == INTERRUPTED and sys.stderr.isatty():
            print(file=sys.stderr)  # after the ^C the terminal shows
        print(f"gemkit: {' '.join(line.split())}", file=sys.stderr)
        return code


def _run(arguments: list[str], debug: bool) -> int:
    try:
        with cli.make_context("gemkit", arguments, obj=debug) as context:
            cli.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    return 0


def explain(error: BaseException) -> tuple[str, int]:
    """What to tell the user about an error, and the exit code."""
    if isinstance(error, GemkitError):
        return str(error), error.exit_code
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "gemkit"
        return f"{error.format_message().rstrip('.')}; see {path} --help", 2
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return "interrupted", INTERRUPTED
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "out of memory; use a smaller model, batch or context, or --dtype bfloat16", 1
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}", 1
    first = (str(error).splitlines() or [""])[0]
    return (
        f"this is a bug in gemkit: {type(error).__name__}: {first}; please report it with what "
        f"the same command prints with {DEBUG_FLAG}"
    ), 1
