"""Lines of a Python session."""

import pytest

from gemkit.text.transcript import without_prompts


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (">>> 1 + 1\n2\n", "1 + 1\n"),
        ("\n  >>> x = [\n  ...     1,\n  ... ]\n  >>> x\n  [1]\n", "x = [\n    1,\n]\nx\n"),
        (">>> print('...')\n...\n>>> y", "print('...')\n\ny\n"),
        (">>> f()\nTraceback (most recent call last):\n  ...\nE: x\n>>> g()", "f()\ng()\n"),
        (">>>1\r\n1\r\n", "1\n"),
        (">>>\n>>> x\n", "\nx\n"),
        ("def f():\n    '''\n    >>> f()\n    1\n    '''\n", None),
        ("", None),
    ],
)
def test_prompts_and_outputs_are_left_out(text: str, code: str | None) -> None:
    assert without_prompts(text) == (text if code is None else code)
