r"""Templates of functions and classes, and their rendering in a chosen style.

A family is a block of text:

    %% name|other_name|*noun ; argument kinds
    CONSTANT = 1
    def $f($xs: list[int]) -> int:
        : Return the sum of $xs. | Add up $xs.
        return sum($xs)
    --
        $total = 0
        ...

`%%` gives the names (`*noun` also stands for get_noun, compute_noun, calculate_noun) and how to
draw arguments for tests. `: ` opens a docstring, with alternatives; `--` opens another body;
`code  #~ text` is a comment above the line; `>> ` a line of demonstration. `$slot` is drawn from
`POOLS` once for each family and file, `$_slot` is the same with spaces for underscores.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from snippet_tables import GROUPS, PEOPLE, POOLS, WORDS


@dataclass(frozen=True)
class Style:
    typed: bool
    doc: str
    comments: bool
    pick: int


@dataclass
class Piece:
    """One rendered function or class; `calls` holds (call, expected value) as text."""

    name: str
    text: str
    constants: list[str] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    demo: list[str] = field(default_factory=list)


@dataclass(eq=False)
class Family:
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    constants: tuple[str, ...]
    bodies: tuple[tuple[str, ...], ...]
    demo: tuple[str, ...]
    function: Any = None


_SLOT = re.compile(r"\$(_?[A-Za-z]+\d*)")
_DEF = re.compile(r"^( *)def (\S+?)\((.*)\)(?: -> (.*?))?:$")


def parse(text: str) -> list[Family]:
    families = []
    for block in ("\n" + text.strip("\n")).split("\n%% ")[1:]:
        header, _, body = block.rstrip().partition("\n")
        spelled, _, kinds = header.partition(";")
        names: list[str] = []
        for name in spelled.strip().split("|"):
            stem = name.lstrip("*")
            names.append(stem)
            if name.startswith("*"):
                names += [f"get_{stem}", f"compute_{stem}", f"calculate_{stem}"]
        lines = body.split("\n")
        constants = tuple(line for line in lines if re.match(r"[A-Z_]+ = ", line))
        demo = tuple(line[3:] for line in lines if line.startswith(">> "))
        kept = [x for x in lines if x not in constants and not x.startswith(">> ")]
        parts = "\n".join(kept).split("\n--\n")
        first = parts[0].split("\n")
        opening = next((i for i, x in enumerate(first) if x.lstrip().startswith(": ")), -1) + 1
        bodies = [tuple(first)] + [tuple(first[:opening] + p.split("\n")) for p in parts[1:]]
        kind = tuple(kinds.split())
        families.append(Family(tuple(names), kind, constants, tuple(bodies), demo))
    return families


def draw_style(rng: random.Random) -> Style:
    doc = rng.choice(("none", "none", "line", "line", "line", "args", "comment", "example"))
    return Style(rng.random() < 0.5, doc, rng.random() < 0.4, rng.randrange(6))


def _parameters(text: str) -> list[tuple[str, str, str]]:
    """(name, type, default) of each parameter."""
    parts, depth, start = [], 0, 0
    for i, char in enumerate(text + ","):
        depth += (char in "[({") - (char in "])}")
        if char == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    found = []
    for part in filter(None, parts):
        left, _, default = part.partition(" = ")
        name, _, kind = left.partition(": ")
        if "=" in name:
            name, _, default = name.partition("=")
        found.append((name, kind, default))
    return found


_TYPE_PHRASES = {
    "list[int]": "The list of integers.",
    "list[float]": "The list of numbers.",
    "list[str]": "The list of strings.",
    "dict[str, int]": "The mapping from names to numbers.",
    "list[list[int]]": "The matrix as a list of rows.",
    "list": "The list of items.",
    "bool": "Whether to use it.",
    "Callable": "The function to call.",
}


def _argument(name: str, kind: str) -> str:
    if kind in _TYPE_PHRASES and kind != "bool":
        return f"{name}: {_TYPE_PHRASES[kind]}"
    if len(name) == 1:
        return f"{name}: The value."
    phrase = name.replace("$", "$_") if name.startswith("$") else name.replace("_", " ")
    return f"{name.lstrip('*')}: The {phrase.lstrip('*')}."


def _docstring(text: str, doc: str, signature: re.Match[str] | None, pad: str) -> list[str]:
    if signature is None or doc in ("line", "none"):
        return [f'{pad}"""{text}"""']
    if doc == "example":
        return [f'{pad}"""{text}', f"{pad}$EXAMPLE", f'{pad}"""']
    _, _, inside, result = signature.groups()
    rows = [p for p in _parameters(inside) if p[0] not in ("self", "cls")]
    lines = []
    if rows:
        lines += ["", f"{pad}Args:"] + [f"{pad}    {_argument(p[0], p[1])}" for p in rows]
    if result and result != "None" and text.startswith("Return "):
        value = text[len("Return ") :]
        value = value[0].upper() + value[1:] if value[0] != "$" else "The " + value
        lines += ["", f"{pad}Returns:", f"{pad}    {value}"]
    if not lines:
        return [f'{pad}"""{text}"""']
    return [f'{pad}"""{text}', *lines, f'{pad}"""']


@cache
def _template(family: Family, body: int, style: Style) -> str:
    out: list[str] = []
    signature: re.Match[str] | None = None
    for line in family.bodies[body]:
        bare = line.lstrip()
        pad = line[: len(line) - len(bare)]
        found = _DEF.match(line)
        if found:
            signature = found
            if not style.typed:
                names = [n + (f"={d}" if d else "") for n, _, d in _parameters(found[3])]
                line = f"{pad}def {found[2]}({', '.join(names)}):"
        elif bare.startswith("class "):
            signature = None
        elif bare.startswith(": "):
            texts = bare[2:].split(" | ")
            text = texts[style.pick % len(texts)]
            if style.doc == "comment" and signature is not None:
                at = len(out) - 1
                while out[at - 1].lstrip().startswith("@"):
                    at -= 1
                out.insert(at, f"{pad[4:]}# {text}")
            elif style.doc != "none":
                doc = style.doc if not pad[4:] or style.doc == "args" else "line"
                doc = "line" if doc == "example" and not family.kinds else doc
                out += _docstring(text, doc, signature, pad)
            continue
        if "  #~ " in line:
            line, _, note = line.partition("  #~ ")
            if style.comments:
                out.append(f"{pad}# {note}")
        out.append(line)
    return "\n".join(out)


@cache
def _reserved(family: Family) -> frozenset[str]:
    """Names that the family's code spells out, which no slot may take."""
    lines = [line for body in family.bodies for line in body if not line.lstrip().startswith(": ")]
    return frozenset(re.findall(r"(?<![$\w])[a-z]\w*", "\n".join(lines)))


def fill(
    template: str,
    rng: random.Random,
    values: dict[str, str],
    reserved: frozenset[str] = frozenset(),
) -> str:
    """Replace the slots; `values` holds those drawn so far and takes the new ones."""

    def draw(found: re.Match[str]) -> str:
        name = found[1]
        if name.startswith("_"):
            return draw_name(name[1:]).replace("_", " ")
        return draw_name(name)

    def draw_name(name: str) -> str:
        if name in values:
            return values[name]
        base = name.rstrip("0123456789")
        if name in GROUPS:
            slots, rows = GROUPS[name]
            for _ in range(8):
                row = rng.choice(rows)
                if not set(row) & (reserved | set(values.values())):
                    break
            for slot, value in zip(slots, row, strict=True):
                values.setdefault(slot, value)
        elif name in POOLS:
            free = [x for x in POOLS[name] if x not in values.values() and x not in reserved]
            values[name] = rng.choice(free or POOLS[name])
        elif base in LITERALS:
            values[name] = literal(LITERALS[base](rng))
        else:
            raise KeyError(f"no such slot: ${name}")
        return values[name]

    return _SLOT.sub(draw, template)


def literal(value: Any) -> str:
    text = repr(value)
    return text if '"' in text else text.replace("'", '"')


def _numbers(rng: random.Random, low: int, high: int) -> list[int]:
    return [rng.randint(low, high) for _ in range(rng.randint(3, 6))]


def _matrix(rng: random.Random, rows: int, columns: int) -> list[list[int]]:
    return [[rng.randint(0, 9) for _ in range(columns)] for _ in range(rows)]


LITERALS: dict[str, Callable[[random.Random], Any]] = {
    "int": lambda r: r.randint(1, 20),
    "n": lambda r: r.randint(1, 8),
    "small": lambda r: r.randint(2, 5),
    "year": lambda r: r.randint(1900, 2030),
    "float": lambda r: r.randint(1, 40) / 2,
    "money": lambda r: r.randint(2, 40) * 5,
    "rate": lambda r: r.randint(1, 20) / 100,
    "ints": lambda r: _numbers(r, -9, 30),
    "nats": lambda r: _numbers(r, 1, 30),
    "sorted": lambda r: sorted(set(_numbers(r, 1, 40))),
    "floats": lambda r: [x / 2 for x in _numbers(r, 1, 20)],
    "word": lambda r: r.choice(WORDS),
    "char": lambda r: r.choice("abcdeilmnorst"),
    "palindrome": lambda r: r.choice(("level", "radar", "noon", *WORDS)),
    "person": lambda r: r.choice(PEOPLE),
    "words": lambda r: r.sample(WORDS, r.randint(2, 5)),
    "people": lambda r: r.sample(PEOPLE, r.randint(2, 4)),
    "sentence": lambda r: " ".join(r.choice(WORDS) for _ in range(r.randint(3, 6))),
    "scores": lambda r: {name: r.randint(1, 20) for name in r.sample(PEOPLE, r.randint(2, 3))},
    "stock": lambda r: {name: r.randint(1, 20) for name in r.sample(WORDS, r.randint(2, 3))},
    "point": lambda r: (r.randint(0, 9), r.randint(0, 9)),
    "points": lambda r: [(r.randint(0, 9), r.randint(0, 9)) for _ in range(3)],
    "pairs": lambda r: [(w, r.randint(1, 9)) for w in r.sample(WORDS, 3)],
    "matrix": lambda r: _matrix(r, r.randint(2, 3), r.randint(2, 3)),
    "square": lambda r: _matrix(r, 2, 2),
    "nested": lambda r: [_numbers(r, 0, 9) for _ in range(2)],
    "bool": lambda r: r.random() < 0.5,
    "binary": lambda r: f"{r.randint(2, 60):b}",
    "digits": lambda r: str(r.randint(10, 9999)),
    "time": lambda r: f"{r.randint(0, 23):02}:{r.randint(0, 59):02}",
    "email": lambda r: f"{r.choice(PEOPLE).lower()}@example.{r.choice(('com', 'org'))}",
    "csv": lambda r: ",".join(r.sample(WORDS, 3)),
}


def _function(family: Family) -> Callable[..., Any]:
    """The family's first spelling as a real function, to learn what its calls return."""
    if family.function is None:
        values = {"f": "function"}
        style = Style(False, "none", False, 0)
        source = "\n".join([*family.constants, _template(family, 0, style)])
        source = fill(source, random.Random(0), values, _reserved(family))
        scope: dict[str, Any] = {}
        header = (
            "import math, re, random, string, itertools, functools, statistics, json, heapq\n"
            "import bisect, operator\nfrom collections import *\nfrom datetime import *\n"
            "from pathlib import Path\nfrom collections.abc import Callable, Iterable, Iterator\n"
        )
        exec(header + source, scope)
        family.function = scope["function"]
    return family.function


def calls(family: Family, name: str, rng: random.Random, many: int) -> list[tuple[str, str]]:
    """Calls of the function with drawn arguments, with the values they return."""
    out: list[tuple[str, str]] = []
    for _ in range(many * 2 if family.kinds else 0):
        arguments = [LITERALS[kind](rng) for kind in family.kinds]
        shown = ", ".join(literal(x) for x in arguments)
        try:
            value = _function(family)(*arguments)
        except (ValueError, ZeroDivisionError, IndexError, KeyError):
            continue
        call = f"{name}({shown})"
        if isinstance(value, float):
            if abs(value * 100 % 1 - 0.5) < 1e-6:  # bodies may round a tie differently
                continue
            value, call = round(value, 2), f"round({call}, 2)"
        text = literal(value)
        if len(call) + len(text) < 74 and len(out) < many:
            out.append((call, text))
    return list(dict(out).items())


def check(call: str, value: str) -> str:
    """An assert statement for a call and the value it returns."""
    if value in ("True", "False"):
        return f"assert {call}" if value == "True" else f"assert not {call}"
    return f"assert {call} {'is' if value == 'None' else '=='} {value}"


def render(
    family: Family, style: Style, rng: random.Random, values: dict[str, str] | None = None
) -> Piece:
    """The family with slots filled; `values` fixes some of them."""
    values = dict(values or {})
    values["f"] = fill(rng.choice(family.names), rng, values)
    template = _template(family, rng.randrange(len(family.bodies)), style)
    text = fill(template.replace("$EXAMPLE", "\x00"), rng, values, _reserved(family))
    text = re.sub(r"(?m)^(class .*:)\n\n", r"\1\n", text)
    found = calls(family, values["f"], rng, rng.randint(1, 3))
    if "\x00" in text:
        shown = [
            f"    >>> {call}\n    {value.replace(chr(34), chr(39))}"
            for call, value in found[:2]
            if value != "None" and "'" not in value and "\\" not in value
        ]
        if shown:
            text = text.replace("    \x00", "\n" + "\n".join(shown))
        else:
            text = text.replace('\n    \x00\n    """', '"""')
    constants = [fill(line, rng, values) for line in family.constants]
    demo = [fill(line, rng, values) for line in family.demo]
    return Piece(values["f"], text, constants, found, demo)
