"""Values as text in HTML. Everything that comes from outside goes through `safe`."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any


def safe(value: Any) -> str:
    """Text for HTML, attributes included; control characters but tab and line feed are dropped.

    >>> safe('<a href="x">\\x07')
    '&lt;a href=&quot;x&quot;&gt;'
    """
    text = str(value)
    return escape("".join(c for c in text if c in "\t\n" or not 0 <= ord(c) < 32))


def number(value: Any) -> str:
    """A figure for reading.

    >>> [number(v) for v in (0.0003, 1363968, 2.3149, float("nan"), "rank")]
    ['0.0003', '1,363,968', '2.315', 'not a number', 'rank']
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return "not a number"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def duration(seconds: float) -> str:
    """
    >>> duration(4.21), duration(75), duration(7384)
    ('4.21 s', '1 min 15 s', '2 h 3 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.3g} s"


def cut(value: Any, most: int) -> str:
    """The first `most` characters, made safe, and how many more there are."""
    text = str(value)
    more = f"… ({len(text) - most:,} more characters)" if len(text) > most else ""
    return safe(text[:most] + more)


def words(key: Any) -> str:
    """A name in a program as words: `batch_tokens` → `batch tokens`."""
    return safe(str(key).replace("_", " "))


def facts(value: Any) -> str:
    """JSON values as nested lists of names and values."""
    if isinstance(value, Mapping):
        rows = "".join(f"<dt>{words(k)}</dt><dd>{facts(v)}</dd>" for k, v in value.items())
        return f"<dl>{rows}</dl>"
    if isinstance(value, list | tuple):
        if all(not isinstance(item, Mapping | list | tuple) for item in value):
            return safe(", ".join(number(item) for item in value)) or "none"
        return "".join(f"<div>{facts(item)}</div>" for item in value)
    if value is None or value == "":
        return "–"
    return ("yes" if value else "no") if isinstance(value, bool) else safe(number(value))


def table(head: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are HTML; `head`: each column's name, and whether it holds figures."""
    kinds = [' class="n"' if figures else "" for _, figures in head]
    names = "".join(f"<th{k}>{safe(name)}</th>" for k, (name, _) in zip(kinds, head, strict=True))
    lines = (
        "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True))
        for row in rows
    )
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"
