"""Stop strings across tokens: found whatever the pieces, never partly shown."""

import itertools
from collections.abc import Sequence

import pytest

from gemkit.text.stops import StopText


class Pieces:
    """A stream in which token n is the n-th piece; `last` comes with flush."""

    def __init__(self, pieces: Sequence[str], last: str = "") -> None:
        self.pieces, self.last = pieces, last

    def push(self, token: int) -> str:
        return self.pieces[token]

    def flush(self) -> str:
        return self.last


def shown(pieces: Sequence[str], stops: Sequence[str], last: str = "") -> tuple[list[str], bool]:
    stream = StopText(Pieces(pieces, last), stops)  # type: ignore[arg-type]
    out = [stream.push(token) for token in range(len(pieces))]
    return [*out, stream.flush()], stream.stopped


@pytest.mark.parametrize(
    ("pieces", "stops", "expected", "stopped"),
    [
        (["a", "b"], [], ["a", "b", ""], False),
        (["one E", "ND two"], ["END"], ["one ", "", ""], True),
        (["one E", "N", "x"], ["END"], ["one ", "", "ENx", ""], False),
        (["one E"], ["END"], ["one ", "E"], False),
        (["END"], ["END"], ["", ""], True),
        (["abc"], ["c", "b"], ["a", ""], True),
        (["ab", "ab", "c"], ["abc"], ["", "ab", "", ""], True),
        (["aab", "aac"], ["aabaac", "b"], ["aa", "", ""], True),
        (["a", "b", "never"], ["b"], ["a", "", "", ""], True),
    ],
)
def test_what_is_shown(
    pieces: list[str], stops: list[str], expected: list[str], stopped: bool
) -> None:
    assert shown(pieces, stops) == (expected, stopped)


def test_the_last_character_may_complete_a_stop() -> None:
    assert shown(["a�"], ["��"], last="�") == (["a", ""], True)
    assert shown(["a�"], ["��"], last="b") == (["a", "�b"], False)


def test_any_cut_of_a_text_shows_the_same() -> None:
    text, stops = "abcababcc", ["abab", "cc"]
    for cuts in itertools.product((False, True), repeat=len(text) - 1):
        ends = [place for place, cut in enumerate(cuts, 1) if cut]
        bounds = itertools.pairwise([0, *ends, len(text)])
        pieces, stopped = shown([text[a:b] for a, b in bounds], stops)
        assert ("".join(pieces), stopped) == ("abc", True)
