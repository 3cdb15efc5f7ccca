"""Original, simple Python files made by program, to train the nano model on code.

A file is composed of function and class families (see `snippet_template`), written in one style:
with or without type hints, comments and docstrings, and with or without a demonstration or tests
at the end. `snippets(seed, count)` yields the same files for the same seed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from functools import cache

from snippet_classes import CLASSES
from snippet_compose import composed
from snippet_data import COLLECTIONS
from snippet_entities import entity_parts
from snippet_files import FILES
from snippet_geometry import GEOMETRY
from snippet_integers import INTEGERS
from snippet_numbers import NUMBERS
from snippet_structures import STRUCTURES
from snippet_template import Family, Piece, Style, check, draw_style, parse, render
from snippet_text import TEXT
from snippet_words import WORD_LISTS

MODULE_DOCS = {
    "numbers": ("Small functions on numbers.", "Number helpers.", "Basic arithmetic functions."),
    "geometry": ("Geometry helpers.", "Areas, lengths and distances.", "Simple geometry."),
    "text": ("Text helpers.", "Small functions on strings.", "Working with text."),
    "collections": ("Helpers for lists and dictionaries.", "Small list functions."),
    "files": ("Reading and writing files.", "File helpers.", "Simple input and output."),
    "filters": ("Select and count values.", "Filters for lists of numbers."),
    "units": ("Unit conversions.", "Convert between units.", "Simple conversions."),
    "classes": ("Small classes.", "Simple data structures.", "Example classes."),
}
FOLDERS = {
    "numbers": ("math_tools", "numbers", "arithmetic", "maths", "calc"),
    "geometry": ("geometry", "shapes", "plane"),
    "text": ("text", "strings", "words"),
    "collections": ("collections_tools", "lists", "data", "algorithms"),
    "files": ("files", "storage", "tools", "scripts"),
    "filters": ("filters", "lists", "stats"),
    "units": ("units", "convert", "conversion"),
    "classes": ("models", "structures", "core", "objects"),
}
MODULES = (
    "argparse bisect csv functools heapq itertools json logging math operator os random re shutil "
    "statistics string sys time"
).split()
FROM_IMPORTS = {
    "collections": ("Counter", "OrderedDict", "defaultdict", "deque", "namedtuple"),
    "collections.abc": ("Callable", "Iterable", "Iterator"),
    "contextlib": ("contextmanager",),
    "dataclasses": ("asdict", "dataclass", "field"),
    "datetime": ("date", "datetime", "timedelta"),
    "enum": ("Enum",),
    "pathlib": ("Path",),
    "abc": ("ABC", "abstractmethod"),
    "typing": ("Any", "NamedTuple"),
}
_ORIGIN = {name: module for module, names in FROM_IMPORTS.items() for name in names}
_AMBIGUOUS = {"date", "field", "time", "string", "operator", "random"}
_MODULE_USE = re.compile(r"(?<![\w.])(" + "|".join(MODULES) + r")\.[A-Za-z]\w*")
_NAME_USE = re.compile(r"(?<![\w.])(" + "|".join(_ORIGIN) + r")\b(?![ ]=)")
_QUOTED = re.compile(r'"""[\s\S]*?"""|#[^\n]*')
_DEFINED = re.compile(r"^(?:def|class) (\w+)", re.M)


@cache
def _families() -> dict[str, list[Family]]:
    sources = {
        "numbers": NUMBERS + INTEGERS,
        "geometry": GEOMETRY,
        "text": TEXT + WORD_LISTS,
        "collections": COLLECTIONS,
        "files": FILES,
        "classes": CLASSES + STRUCTURES,
        **composed(),
    }
    return {domain: parse(text) for domain, text in sources.items()}


def _imports(body: str, stamp: random.Random) -> tuple[str, str]:
    """The import lines that `body` needs, and `body` (whose `math.` may be shortened)."""
    code = _QUOTED.sub("", body)
    modules = set(_MODULE_USE.findall(code))
    if "string" in modules and "string.ascii_letters" not in code:
        modules.discard("string")
    names: dict[str, set[str]] = {}
    for name in set(_NAME_USE.findall(code)):
        if name in _AMBIGUOUS and not re.search(rf"(?<![\w.]){name}(\(|\.\w+\(|\b[\],) :|])", code):
            continue
        names.setdefault(_ORIGIN[name], set()).add(name)
    if "math" in modules and stamp.random() < 0.25:
        used = set(re.findall(r"\bmath\.(\w+)", code))
        if not any(re.search(rf"(?<![\w.]){name}\b", code) for name in used):
            body = re.sub(r"\bmath\.(\w+)", r"\1", body)
            modules.discard("math")
            names["math"] = used
    lines = [f"import {module}" for module in sorted(modules)]
    for module in sorted(names):
        lines.append(f"from {module} import {', '.join(sorted(names[module]))}")
    return "\n".join(lines), body


def _ending(pieces: list[Piece], style: Style, rng: random.Random) -> str:
    """Tests, a demonstration, or nothing."""
    kind = rng.choice(("none", "none", "tests", "demo", "main", "asserts"))
    shown = [piece for piece in pieces if piece.calls or piece.demo]
    if kind == "none" or not shown:
        return ""
    arrow = " -> None" if style.typed else ""
    if kind == "tests":
        out = []
        for piece in shown[:2]:
            lines = piece.demo or [check(call, value) for call, value in piece.calls]
            tag = re.sub(r"(?<!^)(?=[A-Z])", "_", piece.name).lower()
            out.append(f"def test_{tag}(){arrow}:\n" + "\n".join("    " + x for x in lines))
        return "\n\n\n".join(out)
    lines = []
    for piece in shown[:3]:
        if piece.demo:
            lines += piece.demo
        elif kind == "asserts":
            lines += [check(call, value) for call, value in piece.calls]
        else:
            lines.append(f"print({piece.calls[0][0]})")
    inner = "\n".join("    " + line for line in lines)
    if kind == "main":
        guard = 'if __name__ == "__main__":\n    main()'
        return f"def main(){arrow}:\n{inner}\n\n\n{guard}"
    return f'if __name__ == "__main__":\n{inner}'


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _compose(rng: random.Random) -> tuple[str, str]:
    style = draw_style(rng)
    families = _families()
    domain = rng.choice(_DOMAINS)
    if domain == "entities":
        folder, doc, pieces = entity_parts(style, rng)
    else:
        folder, doc = rng.choice(FOLDERS[domain]), rng.choice(MODULE_DOCS[domain])
        goal = rng.randint(10, 38)
        pieces, length, seen = [], 0, set()
        for family in rng.sample(families[domain], min(6, len(families[domain]))):
            piece = render(family, style, rng)
            size = piece.text.count("\n") + 3
            if piece.name in seen or length + size > 50:
                continue
            pieces.append(piece)
            seen.add(piece.name)
            length += size
            if length >= goal:
                break
    ending = _ending(pieces, style, rng)
    blocks = [piece.text for piece in pieces] + ([ending] if ending else [])
    constants = "\n".join(dict.fromkeys(line for piece in pieces for line in piece.constants))
    body = "\n\n\n".join([constants] * bool(constants) + blocks)
    imports, body = _imports(body, rng)
    head = []
    if rng.random() < 0.35:
        head.append(f'"""{doc}"""')
    if imports:
        head.append(imports)
    text = "\n\n".join(head)
    if text:
        text += "\n\n" if constants else "\n\n\n"
    first = _snake(pieces[0].name)
    stem = first if rng.random() < 0.8 else rng.choice(("utils", "tools", "common", folder))
    return f"{folder}/{stem}.py", text + body + "\n"


_DOMAINS = (
    ["numbers"] * 4
    + ["geometry"] * 2
    + ["text"] * 4
    + ["collections"] * 4
    + ["files"] * 3
    + ["filters"] * 3
    + ["units"] * 2
    + ["classes"] * 6
    + ["entities"] * 8
)


def snippets(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """Yield `count` pairs (path, source); the same `seed` gives the same files."""
    rng = random.Random(seed)
    made = 0
    while made < count:
        path, source = _compose(rng)
        if 12 <= source.count("\n") <= 64:
            made += 1
            yield path, source
