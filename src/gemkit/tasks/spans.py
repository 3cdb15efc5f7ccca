"""Where a source file is cut open to be completed: whole lines, expressions, any characters.

The kinds are those of the infilling benchmarks (Bavarian et al. 2022, arXiv:2207.14255: lines and
random spans); expressions end where the syntax has a joint, as CodeGemma was trained (arXiv
2406.11409).
"""

import ast
import random
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from gemkit.errors import UsageError

MOST_LINES, MOST_CHARACTERS = 4, 240
SHORTEST_EXPRESSION = 3
BRACKETS = {")": "(", "]": "[", "}": "{"}
_RIGHT_SIDE = re.compile(r"(?<![=!<>])=(?!=)[ \t]*(?P<value>[^\s=][^\n]*)")


class Span(NamedTuple):
    """The characters of a text from `start` up to `end`."""

    start: int
    end: int


def line_spans(text: str, path: str, draw: random.Random) -> list[Span]:
    """One to `MOST_LINES` lines, from the first one's indentation to the last one's end.

    >>> text = "def one():\\n    return 1\\n"
    >>> sorted({text[a:b] for a, b in line_spans(text, "one.py", random.Random(0))})
    ['def one():\\n    return 1', 'return 1']
    """
    lines = [match.span() for match in re.finditer(r"[^\n]+", text) if match[0].strip()]
    spans = []
    for number, (start, end) in enumerate(lines):
        last = min(number + draw.randrange(MOST_LINES), len(lines) - 1)
        indent = len(text[start:end]) - len(text[start:end].lstrip())
        spans.append(Span(start + indent, lines[last][1]))
    return spans


def expression_spans(text: str, path: str, draw: random.Random) -> list[Span]:
    """Expressions and statements of a Python file; in others what brackets hold and `=` gives.

    >>> text = "x = f(1, g(2))"
    >>> sorted(text[a:b] for a, b in expression_spans(text, "a.js", random.Random(0)))
    ['1, g(2)', 'f(1, g(2))']
    """
    found = _syntax_spans(text) if path.endswith((".py", ".pyi")) else None
    if found is None:
        found = _bracket_spans(text)
        found += [Span(*match.span("value")) for match in _RIGHT_SIDE.finditer(text)]
    return [span for span in found if len(text[slice(*span)].strip()) >= SHORTEST_EXPRESSION]


def random_spans(text: str, path: str, draw: random.Random) -> list[Span]:
    """Any characters, wherever they begin and end."""
    spans = []
    for _ in range(64):
        start = draw.randrange(len(text))
        spans.append(Span(start, start + draw.randint(1, MOST_CHARACTERS)))
    return spans


SAMPLERS: Mapping[str, Callable[[str, str, random.Random], list[Span]]] = MappingProxyType(
    {"line": line_spans, "expression": expression_spans, "random": random_spans}
)


def sample_spans(
    text: str, path: str, count: int, kinds: Sequence[str], draw: random.Random
) -> list[tuple[str, Span]]:
    """Up to `count` different spans with their kinds, the kinds in turn; none is blank.

    Raises:
      UsageError: an unknown kind.
    """
    if unknown := [kind for kind in kinds if kind not in SAMPLERS]:
        raise UsageError(f"span {unknown[0]!r}", f"one of {', '.join(SAMPLERS)}")
    offered = {kind: _usable(text, SAMPLERS[kind](text, path, draw)) for kind in kinds}
    for spans in offered.values():
        draw.shuffle(spans)
    chosen: dict[Span, str] = {}
    while len(chosen) < count and any(offered.values()):
        for kind, spans in offered.items():
            if spans and len(chosen) < count:
                chosen.setdefault(spans.pop(), kind)
    return [(kind, span) for span, kind in chosen.items()]


def _usable(text: str, spans: Sequence[Span]) -> list[Span]:
    return [
        span
        for span in dict.fromkeys(spans)
        if span.end <= len(text)
        and span.end - span.start <= MOST_CHARACTERS
        and text[span.start : span.end].strip()
    ]


def _syntax_spans(text: str) -> list[Span] | None:
    """None if it is no Python of the version that runs this."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    # Columns count the bytes of a line in UTF-8.
    lines = text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)

    def place(line: int, column: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    return [
        Span(place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset))
        for node in ast.walk(tree)
        if isinstance(node, ast.expr | ast.stmt)
        and node.end_lineno is not None
        and node.end_col_offset is not None
    ]


def _bracket_spans(text: str) -> list[Span]:
    """What matching brackets hold; strings and comments are not told apart."""
    open_ones: list[tuple[str, int]] = []
    spans = []
    for place, character in enumerate(text):
        if character in BRACKETS.values():
            open_ones.append((character, place + 1))
        elif character in BRACKETS and open_ones and open_ones[-1][0] == BRACKETS[character]:
            spans.append(Span(open_ones.pop()[1], place))
    return spans
