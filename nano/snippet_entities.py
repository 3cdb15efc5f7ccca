"""Files about one kind of record: its class, and functions on lists of such records."""

from __future__ import annotations

import random
from functools import cache

from snippet_records import ENTITIES, RECORD_CLASSES, RECORD_FUNCTIONS
from snippet_template import Family, Piece, Style, parse, render

_BIG = {"price": "expensive", "age": "old", "salary": "well_paid", "weight": "heavy"}


@cache
def _tables() -> tuple[list[Family], list[Family]]:
    return parse(RECORD_CLASSES), parse(RECORD_FUNCTIONS)


def _plural(word: str) -> str:
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "ch", "x", "sh")) else "s")


def _demo(values: dict[str, str], pieces: list[Piece], rng: random.Random) -> list[str]:
    item, kind, number = values["item"], values["Item"], rng.randint(1, 90)
    lines = [f'{item} = {kind}("first", "second", {number}, {rng.randint(1, 9)})']
    checks = [f'assert {item}.{values["s1"]} == "first"']
    checks += [f"assert {item}.{values['n1']} == {number}"]
    for piece in pieces:
        name, n1 = piece.name, values["n1"]
        if name.startswith(("total_", "sum_of_", "get_total", "compute_", "calculate_total")):
            if name.endswith("total_" + n1) or name == f"sum_of_{n1}":
                checks.append(f"assert {name}([{item}, {item}]) == {2 * number}")
        elif name.startswith(("has_", "contains_")):
            checks.append(f'assert {name}([{item}], "first")')
        elif name.startswith(("all_", "list_")):
            checks.append(f'assert {name}([{item}]) == ["first"]')
        elif name.startswith("count_by_"):
            checks.append(f'assert {name}([{item}]) == {{"second": 1}}')
        elif name.startswith(("highest_", "lowest_", "find_highest", "find_lowest")):
            checks.append(f"assert {name}([{item}]) == {item}")
    return lines + checks[-3:]


def entity_parts(style: Style, rng: random.Random) -> tuple[str, str, list[Piece]]:
    """(folder, module docstring, pieces) of a file about one kind of record."""
    name, s1, s2, n1, n2 = rng.choice(ENTITIES)
    if rng.random() < 0.5:
        n1, n2 = n2, n1
    item = name.lower()
    values = {"Item": name, "item": item, "items": _plural(item), "s1": s1, "s2": s2, "n1": n1,
              "n2": n2, "big": _BIG.get(n1, f"{n1}_above"), "plural": _plural(s1)}
    classes, functions = _tables()
    pieces = [render(rng.choice(classes), style, rng, values)]
    length, goal, seen = pieces[0].text.count("\n"), rng.randint(16, 46), {name}
    for family in rng.sample(functions, 6):
        piece = render(family, style, rng, values)
        if length >= goal or piece.name in seen:
            continue
        seen.add(piece.name)
        pieces.append(piece)
        length += piece.text.count("\n") + 3
    pieces[0].demo = _demo(values, pieces, rng)
    for piece in pieces[1:]:
        piece.calls = []
    docs = (f"{name} records.", f"Working with {values['items']}.", f"A small {item} module.")
    return rng.choice((values["items"], "models", "records", "shop")), rng.choice(docs), pieces
