"""Where files are cut open: spans lie in the text, of every kind, the same every time."""

import ast
import doctest
import random

import pytest

from gemkit.errors import UsageError
from gemkit.tasks import spans
from gemkit.tasks.spans import MOST_CHARACTERS, SAMPLERS, expression_spans, sample_spans

PYTHON = '''def total(values, start=0):
    """Die Summe, größer als nichts: ∑."""
    result = start
    for value in values:
        result += value * 2
    return {"sum": result}["sum"]
'''
SCRIPT = "function f(a, b) {\n  const c = g(a, [b, 1]);\n  return c;\n}\n"


def texts(source: str, found: list[spans.Span]) -> set[str]:
    return {source[start:end] for start, end in found}


def test_python_is_cut_at_its_syntax() -> None:
    found = texts(PYTHON, expression_spans(PYTHON, "a.py", random.Random(0)))
    assert {"value * 2", "result += value * 2", 'return {"sum": result}["sum"]'} <= found
    assert {'"""Die Summe, größer als nichts: ∑."""', '{"sum": result}'} <= found
    for text in found:
        ast.parse(text if not text.startswith("return") else f"def f():\n {text}")


@pytest.mark.parametrize(("source", "path"), [(SCRIPT, "a.js"), ("x = (1 +\n" + SCRIPT, "a.py")])
def test_other_files_are_cut_at_brackets_and_assignments(source: str, path: str) -> None:
    found = texts(source, expression_spans(source, path, random.Random(0)))
    assert {"a, b", "b, 1", "a, [b, 1]", "g(a, [b, 1]);"} <= found


@pytest.mark.parametrize("kind", SAMPLERS)
def test_every_kind(kind: str) -> None:
    source = PYTHON * 3
    found = sample_spans(source, "a.py", 9, [kind], random.Random(1))
    assert found == sample_spans(source, "a.py", 9, [kind], random.Random(1))
    assert len(found) == len({span for _, span in found}) == 9
    for name, (start, end) in found:
        assert name == kind and 0 <= start < end <= len(source)
        assert source[start:end].strip() and end - start <= MOST_CHARACTERS
        if kind == "line":
            assert not source[source.rfind("\n", 0, start) + 1 : start].strip()
            assert source[end] == "\n"


def test_kinds_take_turns() -> None:
    kinds = [kind for kind, _ in sample_spans(PYTHON, "a.py", 6, tuple(SAMPLERS), random.Random(0))]
    assert sorted(kinds) == sorted([*SAMPLERS, *SAMPLERS])


def test_a_short_file_offers_what_it_has() -> None:
    assert len(sample_spans("x = 1", "a.py", 9, ["line"], random.Random(0))) == 1
    with pytest.raises(UsageError, match="span 'word'; expected one of line, expression, random"):
        sample_spans("x", "a.py", 1, ["word"], random.Random(0))


def test_examples() -> None:
    assert doctest.testmod(spans).failed == 0
