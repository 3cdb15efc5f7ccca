"""Banned strings against looking for them in the text of every continuation."""

import doctest
from collections.abc import Sequence

import numpy as np
import pytest

from gemkit.errors import UsageError
from gemkit.text import banned as module
from gemkit.text.banned import BannedText

PIECES = [b"", b"a", b"b", b"ab", b"ba", b"aab", b"abab", "é".encode(), b"\xc3", b"\xa9", b"abb"]
TEXTS = ["abba", "aa", "é", "b"]


@pytest.mark.parametrize("texts", [TEXTS[:1], TEXTS[1:2], TEXTS[:3], TEXTS[2:], ["ababab", "aab"]])
def test_a_token_may_follow_if_no_banned_text_is_complete(texts: Sequence[str]) -> None:
    draw, banned = np.random.default_rng(0), BannedText(PIECES, texts, len(PIECES) + 2)
    whole = [text.encode() for text in texts]
    refused = 0
    for _ in range(60):
        answer: list[int] = []
        for _ in range(8):
            allowed = banned.allowed(answer)
            said = b"".join(PIECES[token] for token in answer)
            fits = [not any(text in said + piece for text in whole) for piece in PIECES]
            assert allowed.tolist() == [*fits, True, True]
            refused += fits.count(False)
            answer.append(int(draw.choice(np.flatnonzero(fits))))
    assert refused > 0


@pytest.mark.parametrize("text", ["", "\ud800"])
def test_texts_that_cannot_be_banned(text: str) -> None:
    with pytest.raises(UsageError, match="banned text is"):
        BannedText(PIECES, ["a", text], len(PIECES))


def test_examples() -> None:
    result = doctest.testmod(module)
    assert (result.failed, result.attempted > 0) == (0, True)
