"""Cutting an answer to the middle that was asked for, whole and as it comes."""

import doctest
from typing import Any

import pytest

from gemkit.errors import UsageError
from gemkit.text import middle
from gemkit.text.middle import Gap

RETURN = "\n    return total\n"
BODY = "def f(x):\n    "

# What the suffix repeats: text, suffix, what is kept. The gap's mode is "many", its prefix empty.
SUFFIXES = [
    # Whole lines of the suffix.
    ("total += x\n    return total\n", RETURN, "total += x"),
    ("total += x\n\n    return total\n\n\nprint(1)", RETURN, "total += x"),
    ("total += x\n    return total", RETURN, "total += x"),
    ("    x = 1\n    return total\n", "    return total\n", "    x = 1\n"),
    # The line's own rest, when the cursor stands inside it.
    ("i in range(3):", " in range(3):\n    pass\n", "i"),
    ("x)\n    return y\n", ")\n    return y\n", "x"),
    # Not repetitions.
    ("total += x", RETURN, "total += x"),
    ("total += x\n    return total + 1\n", RETURN, "total += x\n    return total + 1"),
    ("if x:\n        return total\n", RETURN, "if x:\n        return total"),
    ("subtotal", "total", "subtotal"),
    ("f(\n    a,\n)\n", "\n)\n", "f(\n    a,\n)"),
    ("f(x)", ")\n", "f(x)"),
    ("anything\n", "", "anything\n"),
    ("anything\n", "\n \n", "anything"),
    ("", RETURN, ""),
]

# name → prefix, suffix, lines, text, what is kept
CASES: dict[str, tuple[str, str, Any, str, str]] = {
    # One line or many.
    "a line half-written": ("x = ", "\ny = 2\n", "auto", "1\nz = 3\n", "1"),
    "text after the cursor": ("f(", ")\n", "auto", "a, b\nc", "a, b"),
    "a line that is complete": ("x = 1", "\n", "auto", "\ny = 2\nz = 3\n", "\ny = 2"),
    "a call half-written": ("print(", "\n", "auto", "x)\nprint(y)\n", "x)"),
    "a comment with a colon": ("# Note:", "\nx\n", "auto", " this\ny = 2\n", " this"),
    "one line asked for": (BODY, "\n", "one", "y = x\n    return y\n", "y = x"),
    "one line after blank ones": (BODY, "\n", "one", "\n    y = x\n    z\n", "\n    y = x"),
    "many lines asked for": ("x = [", "\n", "many", "\n    1,\n]\ny = 2", "\n    1,\n]\ny = 2"),
    "one line above another": ("", "y = 2\n", "one", "x = 1\nz\n", "x = 1\n"),
    "one line above, indented": ("  ", "y = 2\n", "one", "x = 1\n  z\n", "x = 1\n  "),
    # The indentation's close.
    "a function's body": (BODY, "\n\ng()\n", "auto", "y = x\n    return y\n\n\nz = 1\n",
                          "y = x\n    return y"),
    "from the colon": ("def f(x):", "\n\ng()\n", "auto",
                       "\n    return x\n\n\ndef h():\n    pass\n", "\n    return x"),
    "the block's lines are deeper": ("def f(x):", "", "auto", "\n    a\n        b\n    c\nd",
                                     "\n    a\n        b\n    c\n"),
    "the else that follows": ("if x:\n    if y:\n        ", "\n", "auto", "a()\n    else:\n b",
                              "a()"),
    "an answer with its indentation": ("def f(x):\n", "\n\ng()", "auto", "    return x\n\n\nh()",
                                       "    return x"),
    "nothing to close": ("import a\n\n", "", "auto", "def f():\n    pass\n\n\nx = 1\n",
                         "def f():\n    pass\n\n\nx = 1\n"),
    "tabs": ("if (x) {\n\t", "\n", "auto", "a();\n\tb();\nc();\n", "a();\n\tb();"),
    "its own bracket": ("function f() {\n  ", "\n", "auto",
                        "a();\n}\n\nfunction g() {\n", "a();\n}"),
    "a bracket that is there": ("function f() {\n  ", "\n}\n", "auto", "a();\n}\n\ng();\n", "a();"),
    "a bracket of another block": ("class A {\n  f() {\n    ", "\n}\n", "auto",
                                   "a();\n  }\n  g() {", "a();\n  }"),
    "a bracket that opens again": ("if (x) {\n  ", "\n", "auto",
                                   "a();\n} else {\n  b();\n}\nc();\n",
                                   "a();\n} else {\n  b();\n}"),
    # The suffix again, seen from where the cursor is.
    "nothing was missing": (BODY, "\n    return total\n", "auto", "return total\n", ""),
    "above a line": (BODY, "return total\n", "auto", "total = x\n    return total\n",
                     "total = x\n    "),
    "above a line, the block's end": (BODY, "return total\n", "auto", "total = x\n\n\ndef g():\n",
                                      "total = x\n    "),
    "before an expression": (BODY, "total(x)\n", "auto", "return ", "return "),
    "the line's rest": ("for ", " in range(3):\n    pass\n", "auto",
                        "i in range(3):\n    x\n", "i"),
    "a bracket closed twice": ("x = f(", ")\n", "auto", "a, g(b))\n", "a, g(b)"),
    "brackets that are closed once": ("x = f(", ")\n", "auto", "g(b)\n", "g(b)"),
    "a bracket opened above": ("    a, ", ")\n", "auto", "g(b)\n", "g(b)"),
    # The cursor's line again.
    "an assignment": ("    total = ", "\n", "auto", "total = a + b", "a + b"),
    "an assignment, indented": ("    total = ", "\n", "auto", "    total = a + b", "a + b"),
    "an assignment to a part": ("self.x[0] += ", "\n", "auto", "self.x[0] += 1", "1"),
    "an assignment with a type": ("x: int = ", "\n", "auto", "x: int = 1", "1"),
    "a statement": ("    return ", "\n", "auto", "return x", "x"),
    "a part of a statement": ("for x in ra", "\n", "auto", "for x in range(3):", "nge(3):"),
    "a part of its word": ("    ret", "\n", "auto", "return x", "urn x"),
    "a definition": ("def a(", "\n", "auto", "def a(x):\n    pass", "x):"),
    "indentation": ("def f():\n    x = 1\n    ", "\n", "auto", "    return x\n", "return x"),
    "indentation below an opening line": (BODY, "\n", "auto", "    return x\n", "return x"),
    # Not the cursor's line again.
    "a call in itself": ("gcd(a, ", "\n", "auto", "gcd(a, b))", "gcd(a, b))"),
    "a sum": ("    a + ", "\n", "auto", "a + b", "a + b"),
    "a longer name": ("i", "\n", "auto", "in_range = 1", "in_range = 1"),
    "a comparison": ("x == ", "\n", "auto", "x == y", "x == y"),
    "a word twice": ("long ", "\n", "auto", "long x;", "long x;"),
    "brackets": ("[", "]\n", "auto", "[1, 2], [3]", "[1, 2], [3]"),
    "deeper, as it must be": ("for x in y:\n", "\n", "auto", "    f(x)\n", "    f(x)"),
    "deeper below an opening line": ("  if x:\n  ", "\n", "auto", "  f(x)\n", "  f(x)"),
    # Blank ends.
    "blank lines at the end": (BODY, "\n", "auto", "x = 1\n    \n\n", "x = 1"),
    "a line end at the file's end": (BODY, "", "auto", "x = 1\n\n\n", "x = 1\n"),
    "a space before the rest": ("x = ", "+ 1\n", "auto", "y ", "y "),
    "only blanks": (BODY, "\n", "auto", "\n\n", ""),
    "nothing": ("", "x", "auto", "", ""),
}  # fmt: skip


@pytest.mark.parametrize(("text", "suffix", "kept"), SUFFIXES)
def test_the_middle_ends_where_the_suffix_begins(text: str, suffix: str, kept: str) -> None:
    assert Gap("", suffix, "many").cut(text) == kept


@pytest.mark.parametrize("name", CASES)
def test_a_middle_is_cut(name: str) -> None:
    prefix, suffix, lines, text, kept = CASES[name]
    assert Gap(prefix, suffix, lines).cut(text) == kept


@pytest.mark.parametrize("name", CASES)
def test_stopping_early_changes_nothing(name: str) -> None:
    prefix, suffix, lines, text, kept = CASES[name]
    gap = Gap(prefix, suffix, lines)
    for length in range(len(text) + 1):
        if gap.is_over(text[:length]):
            assert gap.cut(text[:length]) == kept
            assert gap.is_over(text)


@pytest.mark.parametrize(
    ("prefix", "suffix", "text", "least"),
    [
        ("x = ", "\n", "1\nz", "1\n"),
        (BODY, "\n", "y\n    z\ndef", "y\n    z\nd"),
        ("{\n  ", "\n", "y\n}\nz", "y\n}\n"),
        (BODY, RETURN, "y\n    return total\nz", "y\n    return total\n"),
    ],
)
def test_it_is_over_as_soon_as_it_can_be_known(
    prefix: str, suffix: str, text: str, least: str
) -> None:
    gap = Gap(prefix, suffix)
    over = [text[:length] for length in range(len(text)) if gap.is_over(text[:length])]
    assert over[0] == least


def test_unknown_lines() -> None:
    with pytest.raises(UsageError, match="lines is 'two'; expected"):
        Gap("", "", "two")  # type: ignore[arg-type]


def test_examples() -> None:
    result = doctest.testmod(middle)
    assert (result.failed, result.attempted > 0) == (0, True)
