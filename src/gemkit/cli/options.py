"""What commands share: their class, groups of options, small helpers.

Settings have their defaults in the Python interface alone: a flag that is not given is None here
and is not passed on.
"""

import contextlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import click

from gemkit.errors import MemoryWarning, UsageError

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
    """The flags that were given, as the Python interface takes them."""
    given = {name: value for name, value in flags.items() if value is not None and value != ()}
    if "logit_bias" in given:
        given["logit_bias"] = _biases(given["logit_bias"])
    return given


def _biases(pairs: Sequence[str]) -> dict[str | int, float]:
    """`5=2.5` and ` the=-1` → {5: 2.5, " the": -1.0}."""
    found: dict[str | int, float] = {}
    for pair in pairs:
        token, _, value = pair.rpartition("=")
        try:
            found[int(token) if token.strip().isdecimal() else token] = float(value)
        except ValueError:
            token = ""
        if not token:
            raise UsageError(f"--logit-bias is {pair!r}", "TOKEN=BIAS, such as 107=-2.5")
    return found


def as_json(value: Any) -> None:
    """Prints a result for a program."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def remark(text: str) -> None:
    """A line for the user, apart from the results."""
    print(text, file=sys.stderr)


@contextlib.contextmanager
def warned() -> Iterator[None]:
    """Shows our own warnings as remarks."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", MemoryWarning)
        setattr(warnings, "showwarning", lambda message, *_, **__: remark(str(message)))  # noqa: B010
        yield


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
CACHE_DTYPE = click.option(
    "--cache-dtype", type=click.Choice(["float32", "bfloat16", "int8"]),
    help="Of keys and values; default as the weights. int8 saves memory, answers may differ.",
)  # fmt: skip
MODEL = click.argument("model")
TEXT = click.option("--text", metavar="COLUMN", help="Column with the text.")
LABEL = click.option("--label", metavar="COLUMN", help="Column with the label.")

SAMPLING = options(
    click.option("--temperature", type=float, help="0 takes the likeliest token (default)."),
    click.option("--top-k", type=int, help="Only the K likeliest tokens."),
    click.option("--top-p", type=float, help="Only the likeliest that reach this probability."),
    click.option("--min-p", type=float, help="Only those this likely against the likeliest."),
    click.option("--repetition-penalty", type=float, help="Above 1 makes repeats less likely."),
    click.option("--presence-penalty", type=float, help="Off what the answer holds; 0 for none."),
    click.option("--frequency-penalty", type=float, help="The same for each time it holds it."),
    click.option(
        "--logit-bias", multiple=True, metavar="TOKEN=BIAS",
        help="Added to the logit of a token, an id or a text that is one; repeatable.",
    ),
    click.option(
        "--ban", "banned", multiple=True, metavar="TEXT", help="Never in an answer; repeatable."
    ),
    click.option("--seed", type=int, help="Of the random draws."),
)  # fmt: skip
SEVERAL = options(
    click.option("--n", type=int, metavar="N", help="Answers per prompt; wants a temperature."),
    click.option("--best-of", type=int, metavar="N", help="Draw N, print the likeliest."),
    click.option("--beams", type=int, metavar="N", help="Beam search of this width."),
)
CONSTRAINTS = options(
    click.option("--force", "forced", metavar="TEXT", help="What the answer begins with."),
    click.option(
        "--choice", "choices", multiple=True, metavar="TEXT",
        help="The answer is one of these; give two or more.",
    ),
    click.option("--regex", metavar="PATTERN", help="The answer matches this."),
    click.option(
        "--json-schema", metavar="FILE|JSON", help="The answer is JSON of this schema."
    ),
)  # fmt: skip
LIMITS = options(
    click.option("--max-new-tokens", type=int, metavar="N", help="Most tokens of an answer."),
    click.option("--max-length", type=int, metavar="N", help="Most of prompt and answer."),
)
STOP = click.option("--stop", multiple=True, metavar="TEXT", help="Ends the answer; repeatable.")
