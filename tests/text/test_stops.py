"""Stop strings across tokens: found whatever the pieces, never partly shown."""

import itertools
import random
from collections.abc import Sequence

import pytest

from gemkit.text.stops import StopText
from gemkit.text.tokenizer import Tokenizer


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
        (["one", " two"], [" "], ["one", "", ""], True),
        ([" one"], [" "], ["", ""], True),
        (["one", "\u00a0two", "\n"], [" "], ["one", "\u00a0two", "\n", ""], False),
        (["one ", " ", "two"], ["  "], ["one", "", "", ""], True),
        (["one ", "two"], ["  "], ["one", " two", ""], False),
        (["abc"], ["abc", "b"], ["a", ""], True),
        (["ab", "c"], ["abc", "b"], ["a", "", ""], True),
        (["abc"], ["bc", "abc", "c"], ["", ""], True),
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


def ended(text: str, stops: Sequence[str]) -> str:
    """`text` read character by character until a stop string is complete."""
    for length in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:length].endswith(stop)]
        if found:
            return text[: length - max(map(len, found))]
    return text


def test_random_texts_and_cuts() -> None:
    """What is shown only ever grows towards the text before the stop."""
    draw = random.Random(1)
    stopped_early = 0
    for _ in range(3000):
        text = "".join(draw.choices("ab ", k=draw.randrange(12)))
        stops = ["".join(draw.choices("ab ", k=draw.randint(1, 4))) for _ in range(3)]
        cuts = sorted(draw.sample(range(len(text) + 1), k=min(3, len(text))))
        bounds = itertools.pairwise([0, *cuts, len(text)])
        pieces, stopped = shown([text[a:b] for a, b in bounds], stops)
        expected = ended(text, stops)
        assert "".join(pieces) == expected
        assert stopped == (expected != text)
        stopped_early += stopped
    assert 500 < stopped_early < 2900


@pytest.mark.parametrize("stop", [" ", "\n\n", "맛있", "<end_of_turn>", "😀", "요."])
def test_stops_in_the_tokens_of_a_vocabulary(stop: str, codegemma: Tokenizer) -> None:
    """Spaces belong to words, some characters take several tokens, others a part of one."""
    text = "음식이 따뜻하고 맛있어요.\n\nEND <end_of_turn> 😀 다시"
    tokens = codegemma.encode(text)
    stream = StopText(codegemma.stream(), [stop])
    pieces = [stream.push(token) for token in tokens]
    assert stream.stopped and stream.flush() == ""
    assert "".join(pieces) == text[: text.index(stop)]
