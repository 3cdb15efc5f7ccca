"""Where a text differs from another, in words."""

import difflib
import re

# Words, single marks, and runs of blanks: what a reader takes in one by one.
_WORD = re.compile(r"\w+|\s+|[^\w\s]")
_SOLID = re.compile(r"\w+")
ALIKE = 0.35
"""Below this share of equal words the texts have nothing to do with each other."""

Part = tuple[str, bool]


def differing(text: str, other: str) -> list[Part]:
    """`text` in parts, each with whether it differs from `other`; nothing does in unlike texts.

    >>> differing("The cat sat.", "The dog sat.")
    [('The ', False), ('cat', True), (' sat.', False)]
    >>> differing("Good morning to you", "x = 1")
    [('Good morning to you', False)]
    """
    mine, theirs = _WORD.findall(text), _WORD.findall(other)
    found = difflib.SequenceMatcher(None, mine, theirs, autojunk=False).get_opcodes()
    parts = [
        ("".join(mine[start:end]), kind != "equal")
        for kind, start, end, _, _ in found
        if end > start
    ]
    words = len(_SOLID.findall(text)) + len(_SOLID.findall(other))
    equal = sum(len(_SOLID.findall(part)) for part, differs in parts if not differs)
    if 2 * equal < ALIKE * words:
        return [(text, False)]
    return _joined(parts)


def _joined(parts: list[Part]) -> list[Part]:
    """Blanks between two parts that differ belong to them; blanks around such parts do not."""
    flagged = [
        (part, differs or (part.isspace() and 0 < i < len(parts) - 1))
        for i, (part, differs) in enumerate(parts)
    ]
    joined: list[Part] = []
    for part, differs in flagged:
        if joined and joined[-1][1] == differs:
            joined[-1] = (joined[-1][0] + part, differs)
        else:
            joined.append((part, differs))
    return joined
