"""`gemkit explain`: what code does, in Markdown that is rendered as it comes."""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from gemkit.cli.commands_text import standard_input, visible, write_pieces
from gemkit.cli.options import (
    CACHE_DTYPE,
    DTYPE,
    JSON,
    LIMITS,
    MODEL,
    SAMPLING,
    STOP,
    Command,
    as_json,
    present,
)  # fmt: skip
from gemkit.text.source_file import plain, read_source, split_range

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


@click.command(cls=Command)
@MODEL
@click.argument("place", metavar="FILE[:START[-END]]|-")
@click.option("--language", metavar="NAME", help="Of the answer; English by default.")
@LIMITS
@SAMPLING
@STOP
@DTYPE
@CACHE_DTYPE
@JSON
def explain(
    model: str, place: str, dtype: str | None, cache_dtype: str | None, as_program: bool,
    **settings: Any,
) -> None:  # fmt: skip
    """Explain what code does.

    Says what it is for, what happens step by step and which output to expect. The code is a
    FILE, some lines of it, or for - standard input. Of a Python session, whose first line begins
    with >>>, prompts and outputs are left out.

    Wants a MODEL that was tuned to follow instructions, such as gemma2_instruct_2b_en.
    """
    code = standard_input() if place == "-" else _code(place)
    from gemkit.loading import load

    lm = load(model, **present(dtype=dtype, cache_dtype=cache_dtype))
    settings = present(**settings)
    if as_program:
        as_json({"explanation": lm.explain(code, **settings)})
    elif sys.stdout.isatty():
        render(lm.stream_explain(code, **settings))
    else:
        write_pieces(lm.stream_explain(code, **settings))


def _code(place: str) -> str:
    asked = None if Path(place).exists() else split_range(place)
    if asked is None:
        return plain(read_source(Path(place)).text)
    path, first, last = asked
    return read_source(path).lines(first, last)


def render(pieces: Iterable[str]) -> None:
    """Markdown on the terminal: each block for good when it is whole, the last as it grows."""
    from rich.console import Console
    from rich.live import Live
    from rich.markdown import Markdown
    from rich.segment import Segments

    console = Console()

    def rendered(block: str) -> Segments:
        # Lists, quotes and tables come with a blank line of their own before them.
        segments = list(console.render(Markdown(block)))
        lines = (n for n, segment in enumerate(segments) if segment.text != "\n")
        return Segments(segments[next(lines, 0) :])

    with Live(console=console, transient=True, refresh_per_second=8) as live:
        for block, whole in blocks(map(visible, pieces)):
            if whole:
                live.update("")
                console.print(rendered(block), end="")
                console.print()
            else:
                live.update(rendered(block))


def blocks(pieces: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Markdown cut at blank lines outside code: (block, whether it is whole).

    An unfinished block comes again with each piece; the last one comes whole in the end.

    >>> list(blocks(["# A\\n\\nb", "c"]))
    [('# A', True), ('b', False), ('bc', False), ('bc', True)]
    """
    text = ""
    for piece in pieces:
        text += piece
        while (end := _block_end(text)) is not None:
            if text[:end].strip():
                yield text[:end].strip("\n"), True
            text = text[end:]
        if text.strip():
            yield text, False
    if text.strip():
        yield text.strip("\n"), True


def _block_end(text: str) -> int | None:
    """Where the first blank line outside a code block ends."""
    fence, place = "", 0
    for line in text.splitlines(keepends=True):
        place += len(line)
        match = _FENCE.match(line)
        if match and not fence:
            fence = match[1]
        elif match and match[1].startswith(fence) and not match[2].strip():
            fence = ""
        if not fence and not line.strip() and line.endswith("\n"):
            return place
    return None
