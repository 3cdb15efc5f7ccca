"""Beam search against trying every answer, and the cached one against full forward passes."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from tiny import CONFIGS, GEMMA1, full_logits, ids, log_softmax, weights

from gemkit.errors import GenerationError, UsageError
from gemkit.generate.beam import Beam, beam_search, length_penalty, search

Log = np.ndarray


class Table:
    """A language whose next-token probabilities are drawn anew for every start."""

    def __init__(self, vocabulary: int, seed: int, spread: float = 2.0) -> None:
        self.vocabulary, self.seed, self.spread = vocabulary, seed, spread
        self.rows_asked: list[int] = []

    def log_probs(self, tokens: Sequence[int]) -> Log:
        draw = np.random.default_rng([self.seed, len(tokens), *tokens])
        return log_softmax(draw.normal(size=self.vocabulary) * self.spread)

    def step(
        self, state: list[tuple[int, ...]], parents: np.ndarray, tokens: np.ndarray
    ) -> tuple[np.ndarray, list[tuple[int, ...]]]:
        state = [(*state[p], int(t)) for p, t in zip(parents, tokens, strict=True)]
        self.rows_asked.append(len(state))
        return np.stack([self.log_probs(row) for row in state]), state

    def search(self, width: int, limit: int, ends: Sequence[int], alpha: float) -> list[Beam]:
        return search(self.log_probs(()), [()], self.step, width, limit, ends, alpha)

    def every_answer(self, limit: int, ends: Sequence[int], alpha: float) -> list[Beam]:
        """All answers that end or reach the limit, the best first."""
        found, others = [], [t for t in range(self.vocabulary) if t not in ends]
        for length in range(1, limit + 1):
            for start in itertools.product(others, repeat=length - 1):
                lasts = [*ends, *(others if length == limit else [])]
                for last in lasts:
                    whole = (*start, last)
                    p = sum(self.log_probs(whole[:i])[t] for i, t in enumerate(whole))
                    score = p / ((5 + length) / 6) ** alpha
                    ended = last in ends
                    found.append(Beam(start if ended else whole, float(p), float(score), ended))
        return sorted(found, key=lambda beam: -beam.score)

    def narrow(self, width: int, limit: int, ends: Sequence[int], alpha: float) -> list[Beam]:
        """Beam search to the very limit, start by start."""
        live: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
        found = []
        for length in range(1, limit + 1):
            scale = ((5 + length) / 6) ** alpha
            longer = []
            for start, p in live:
                for token, more in enumerate(self.log_probs(start).tolist()):
                    if token in ends:
                        found.append(Beam(start, p + more, (p + more) / scale, True))
                    else:
                        longer.append(((*start, token), p + more))
            live = sorted(longer, key=lambda pair: -pair[1])[:width]
        found += [Beam(tokens, p, p / scale, False) for tokens, p in live]
        return sorted(found, key=lambda beam: -beam.score)[:width]


def assert_same(ours: Sequence[Beam], expected: Sequence[Beam]) -> None:
    assert [(b.tokens, b.ended) for b in ours] == [(b.tokens, b.ended) for b in expected]
    for name in ("log_prob", "score"):
        values = [[getattr(beam, name) for beam in beams] for beams in (ours, expected)]
        assert np.allclose(*values, rtol=1e-9)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 3.0])
@pytest.mark.parametrize("ends", [(0,), (1, 3), ()])
def test_a_wide_beam_finds_the_best_of_all(
    seed: int, alpha: float, ends: tuple[int, ...]
) -> None:
    table = Table(4, seed)
    expected = table.every_answer(4, ends, alpha)
    assert_same(table.search(256, 4, ends, alpha), expected[:256])
    # As wide as there are starts to keep, so that nothing is lost.
    best = table.search((4 - len(ends)) ** 3, 4, ends, alpha)
    assert_same(best[:1], expected[:1])


@pytest.mark.parametrize("alpha", [0.0, 0.6, 3.0])
def test_a_narrow_beam_keeps_the_likeliest_starts(alpha: float) -> None:
    """With a large alpha a start may win long after the beam is full of ended answers."""
    stopped_early = 0
    for seed, width in itertools.product(range(8), (1, 2, 5)):
        table = Table(5, seed)
        assert_same(table.search(width, 8, (0, 1), alpha), table.narrow(width, 8, (0, 1), alpha))
        stopped_early += len(table.rows_asked) < 7
    assert stopped_early > 0 or alpha > 1


def test_width_1_is_greedy_where_nothing_ends() -> None:
    table, tokens, log_prob = Table(6, 1), (), 0.0
    for _ in range(5):
        following = table.log_probs(tokens)
        tokens, log_prob = (*tokens, int(following.argmax())), log_prob + following.max()
    found = table.search(1, 5, (), 0.6)
    assert [(beam.tokens, beam.ended) for beam in found] == [(tokens, False)]
    assert found[0].log_prob == pytest.approx(log_prob)


def test_a_beam_finds_what_greedy_misses() -> None:
    first = np.log([0.5, 0.4, 0.1])
    after = {0: np.log([0.4, 0.35, 0.25]), 1: np.log([0.03, 0.02, 0.95]), 2: np.log([1 / 3] * 3)}

    def step(
        state: list[int], parents: np.ndarray, tokens: np.ndarray
    ) -> tuple[np.ndarray, list[int]]:
        return np.stack([after[int(token)] for token in tokens]), list(tokens)

    narrow, wide = (search(first, [0], step, width, 2, (), 0.0)[0] for width in (1, 2))
    assert narrow.tokens == (0, 0) and wide.tokens == (1, 2)
    assert wide.log_prob == pytest.approx(math.log(0.38))


def test_it_stops_early_without_losing_anything() -> None:
    """The end is likely, so that starts soon cannot win any more."""
    table = Table(5, 3, spread=0.5)
    plain = table.log_probs
    table.log_probs = lambda tokens: log_softmax(  # type: ignore[method-assign]
        plain(tokens) + np.array([4.0, 0, 0, 0, 0])
    )
    found = table.search(3, 40, (0,), 0.6)
    assert len(table.rows_asked) < 10
    assert set(table.rows_asked) == {3}
    assert_same(found, table.every_answer(5, (0,), 0.6)[:3])


def test_ties_go_to_earlier_starts_and_lower_ids() -> None:
    flat = np.full((4, 3), -math.log(3))

    def step(
        state: None, parents: np.ndarray, tokens: np.ndarray
    ) -> tuple[np.ndarray, None]:
        return flat, None

    found = search(flat[0], None, step, 4, 2, (), 0.6)
    assert [beam.tokens for beam in found] == [(0, 0), (0, 1), (0, 2), (1, 0)]


def test_impossible_tokens_are_never_taken() -> None:
    first = np.array([0.0, -np.inf, -np.inf])

    def step(
        state: None, parents: np.ndarray, tokens: np.ndarray
    ) -> tuple[np.ndarray, None]:
        return np.tile(first, (5, 1)), None

    found = search(first, None, step, 5, 3, (2,), 0.6)
    assert found == [Beam((0, 0, 0), 0.0, 0.0, False)]


def test_length_penalty_is_that_of_the_paper() -> None:
    assert length_penalty(13, 0.0) == 1.0
    assert length_penalty(13, 1.0) == 3.0
    assert length_penalty(19, 0.5) == 2.0


@pytest.mark.parametrize("name", CONFIGS)
def test_the_cache_changes_nothing(name: str) -> None:
    """13 + 9 tokens overrun the window of 5; rows swap their parents on the way."""
    config, prompt, ends = CONFIGS[name], ids(13), (7, 30)

    def following(tokens: Sequence[int]) -> Log:
        logits = full_logits(weights(config), config, [*prompt, *tokens], 32)
        return log_softmax(logits[-1])

    def step(
        state: list[tuple[int, ...]], parents: np.ndarray, tokens: np.ndarray
    ) -> tuple[np.ndarray, list[tuple[int, ...]]]:
        state = [(*state[p], int(t)) for p, t in zip(parents, tokens, strict=True)]
        return np.stack([following(row) for row in state]), state

    expected = search(following(()), [()], step, 4, 9, ends, 0.6)
    found = beam_search(weights(config), config, prompt, 4, 9, ends, 0.6)
    assert [(b.tokens, b.ended) for b in found] == [(b.tokens, b.ended) for b in expected]
    assert np.allclose([b.score for b in found], [b.score for b in expected], atol=1e-3)


def test_a_prompt_in_several_pieces(small_pieces: None) -> None:
    first = beam_search(weights(GEMMA1), GEMMA1, ids(21), 3, 4, ())
    best = first[0].tokens
    total = 0.0
    for place, token in enumerate(best):
        row = full_logits(weights(GEMMA1), GEMMA1, [*ids(21), *best[:place]])[-1]
        total += log_softmax(row)[token]
    assert first[0].log_prob == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize("width, limit, alpha, message", [
    (0, 5, 0.6, "the beam's width is 0; expected at least 1"),
    (3, 0, 0.6, "the limit is 0; expected at least 1"),
    (3, 5, -0.1, "alpha is -0.1; expected at least 0"),
    (3, 5, math.nan, "alpha is nan"),
])  # fmt: skip
def test_wrong_settings(width: int, limit: int, alpha: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Table(4, 0).search(width, limit, (0,), alpha)
    with pytest.raises(UsageError, match=message):
        beam_search(weights(GEMMA1), GEMMA1, [2], width, limit, (1,), alpha)


def test_a_prompt_without_tokens() -> None:
    with pytest.raises(GenerationError, match="the prompt is empty"):
        beam_search(weights(GEMMA1), GEMMA1, [], 2, 3, (1,))
