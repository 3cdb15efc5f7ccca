"""Flags that are settings of a task; which task takes which is told by its fields."""

from typing import Any

import click

from gemkit.cli.options import LABEL, TEXT, options

COLUMN = "COLUMN"


def _words(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    return None if value is None else tuple(word.strip() for word in value.split(","))


_FLAGS = (
    TEXT,
    LABEL,
    click.option("--prompt", metavar=COLUMN, help="Column with the instruction."),
    click.option("--response", metavar=COLUMN, help="Column with the reply."),
    click.option("--context", metavar=COLUMN, help="Column with what the instruction is about."),
    click.option("--context-rows", metavar="keep|drop", help="Rows with context; default keep."),
    click.option("--messages", metavar=COLUMN, help="Column with the conversation."),
    click.option("--source", metavar=COLUMN, help="Column with the text to translate."),
    click.option("--target", metavar=COLUMN, help="Column with the translation."),
    click.option("--language", help="To translate into; default French."),
    click.option("--template", help="Name of the prompt's form."),
    click.option("--prefix", metavar=COLUMN, help="Column with what stands before a gap."),
    click.option("--middle", metavar=COLUMN, help="Column with what fills it."),
    click.option("--suffix", metavar=COLUMN, help="Column with what stands after it."),
    click.option("--gaps", type=int, help="Gaps cut into each source file; default 8."),
    click.option("--spans", metavar="line,…", callback=_words,
                 help="Their kinds: line, expression, random; default all."),
    click.option("--spm-share", type=float, help="Share that shows the suffix first; default 0.5."),
    click.option("--context-files", type=int, help="Other files to show before one; default 2."),
    click.option("--max-new-tokens", type=int, metavar="N", help="Most tokens of an answer."),
    click.option("--lines", metavar="auto|one|many|all",
                 help="How much is wanted of a middle: auto (default) is one where the line is"
                 " begun, else many; all is what was written."),
)  # fmt: skip

TASK_FLAGS = options(*_FLAGS)
"""For tune, predict and evaluate. A flag the task does not know is a wrong usage."""


@TASK_FLAGS
def _none() -> None:
    pass


TASK_SETTINGS = tuple(parameter.name for parameter in click.command()(_none).params)
"""The names of all these flags in Python."""
