"""What commands share: their class, groups of options, small helpers.

Settings have their defaults in the Python interface alone: a flag that is not given is None here
and is not passed on.
"""

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from gemkit.errors import UsageError

DEBUG_FLAG = "--debug"

Function = TypeVar("Function", bound=Callable[..., Any])


class Command(click.Command):
    """A command that takes --debug too and prepares JAX before it runs."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), _debug_option()]

    def invoke(self, ctx: click.Context) -> Any:
        from gemkit.cli.runtime import prepare_jax

        prepare_jax(debug=bool(ctx.obj))
        return super().invoke(ctx)


class Group(click.Group):
    """Commands in the order in which they were added; takes --debug too."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), _debug_option()]


def _debug_option() -> click.Option:
    # Who reads it is `main`, which must know of it when parsing fails too.
    return click.Option(
        [DEBUG_FLAG], is_flag=True, expose_value=False, help="Show the traceback of an error."
    )


def options(*given: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """Several option decorators as one, in this order in the help."""

    def decorate(function: Function) -> Function:
        for option in reversed(given):
            function = option(function)
        return function

    return decorate


def present(**flags: Any) -> dict[str, Any]:
    """The flags that were given."""
    return {name: value for name, value in flags.items() if value is not None and value != ()}


def as_json(value: Any) -> None:
    """Prints a result for a program."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def remark(text: str) -> None:
    """A line for the user, apart from the results."""
    print(text, file=sys.stderr)


def pieces(text: str | None) -> tuple[str, ...] | None:
    """`q,v` → ("q", "v")."""
    if text is None:
        return None
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise UsageError(f"--targets is {text!r}", "names separated by commas, such as q,v")
    return found


JSON = click.option("--json", "as_program", is_flag=True, help="Print JSON.")
DTYPE = click.option("--dtype", help="Of the weights: float32, bfloat16; default as stored.")
SKIP = click.option(
    "--skip-bad-rows", is_flag=True, help="Leave out and count rows that cannot be used."
)
MODEL = click.argument("model")
TEXT = click.option("--text", metavar="COLUMN", help="Column with the text.")
LABEL = click.option("--label", metavar="COLUMN", help="Column with the label.")

SAMPLING = options(
    click.option("--temperature", type=float, help="0 takes the likeliest token (default)."),
    click.option("--top-k", type=int, help="Only the K likeliest tokens."),
    click.option("--top-p", type=float, help="Only the likeliest that reach this probability."),
    click.option("--min-p", type=float, help="Only those this likely against the likeliest."),
    click.option("--repetition-penalty", type=float, help="Above 1 makes repeats less likely."),
    click.option("--seed", type=int, help="Of the random draws."),
)
LIMITS = options(
    click.option("--max-new-tokens", type=int, metavar="N", help="Most tokens of an answer."),
    click.option("--max-length", type=int, metavar="N", help="Most of prompt and answer."),
)
STOP = click.option("--stop", multiple=True, metavar="TEXT", help="Ends the answer; repeatable.")
