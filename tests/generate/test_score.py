"""Scores of continuations against a slow loop, and the layout that makes them quick."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from tiny import CONFIGS, GEMMA1, GEMMA2, GEMMA3, VOCABULARY, full_logits, ids, log_softmax, weights

from gemkit.errors import GenerationError
from gemkit.generate import score
from gemkit.generate.score import make_branches, score_continuations, shared_length
from gemkit.model.config import GemmaConfig

# One token, several, the start of another one, and twice the same.
CHOICES = [[5], [6, 7], [6, 7, 8], [9, 10, 11], [6, 7]]
RESTS = [ids(2, 1), ids(3, 2), ids(10, 3), ids(9, 4), ids(1, 5)]


def slow(
    config: GemmaConfig, prompts: Sequence[Sequence[int]], choices: Sequence[Sequence[int]]
) -> np.ndarray:
    """Every prompt with every continuation, whole and alone."""
    found = np.zeros((len(prompts), len(choices)))
    for row, column in np.ndindex(found.shape):
        prompt, choice = prompts[row], choices[column]
        log_p = log_softmax(full_logits(weights(config), config, [*prompt, *choice]))
        for place, token in enumerate(choice):
            found[row, column] += log_p[len(prompt) + place - 1, token]
    return found


def check(
    config: GemmaConfig, prompts: Sequence[Sequence[int]],
    choices: Sequence[Sequence[int]] = CHOICES,
) -> None:  # fmt: skip
    scores = score_continuations(weights(config), config, prompts, choices)
    assert scores.dtype == np.float64
    assert np.abs(scores - slow(config, prompts, choices)).max() < 2e-4
    assert (scores < 0).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_scores_are_those_of_the_slow_loop(name: str, small_pieces: None) -> None:
    """Behind a shared start of 20 tokens, longer than window and ring."""
    start = ids(20, 9)
    prompts = [start + rest for rest in RESTS]
    assert shared_length(prompts) == 20
    check(CONFIGS[name], prompts)


def test_rows_without_a_shared_start(small_pieces: None) -> None:
    prompts = [*RESTS, ids(21, 6)]
    assert shared_length(prompts) == 0
    check(GEMMA2, prompts)


def test_one_prompt_and_prompts_that_begin_each_other() -> None:
    whole = ids(14, 9)
    check(GEMMA3, [whole])
    prompts = [whole, whole[:10], whole]
    assert shared_length(prompts) == 9
    check(GEMMA3, prompts)


def test_one_choice_and_choices_of_one_token() -> None:
    check(GEMMA1, RESTS[:2], [[7, 8]])
    every_token = [[token] for token in range(VOCABULARY)]
    scores = score_continuations(weights(GEMMA1), GEMMA1, RESTS[:2], every_token)
    assert np.exp(scores).sum(1) == pytest.approx(1, abs=1e-5)


def test_batches_and_heads_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """One short row a batch, shared by several prompts; logits of three positions at a time."""
    monkeypatch.setattr(score, "SHORTEST_ROW", 16)
    monkeypatch.setattr(score, "BATCH_TOKENS", 16)
    monkeypatch.setattr(score, "SHORTEST_ROW", 8)
    monkeypatch.setattr(score, "HEAD_ELEMENTS", 3 * VOCABULARY)
    told: list[tuple[int, int]] = []
    prompts = [*RESTS, ids(2, 6), ids(2, 7)]
    choices = [[5], [6, 7, 8]]
    scores = score_continuations(
        weights(GEMMA1), GEMMA1, prompts, choices, lambda done, total: told.append((done, total))
    )
    assert np.abs(scores - slow(GEMMA1, prompts, choices)).max() < 2e-4
    assert len(told) == 3
    assert told == sorted(told)
    assert told[-1] == (7, 7)
    assert {total for _, total in told} == {7}


def test_batches_hold_every_prompt_once_in_few_shapes() -> None:
    lengths = np.random.default_rng(0).integers(1, 700, 300).tolist()
    branches = make_branches(CHOICES)
    met: list[int] = []
    shapes = set()
    for numbers, arrays in score._batches([ids(n, n) for n in lengths], 20, branches):
        shape = arrays["tokens"].shape
        shapes.add((*shape, arrays["at"].shape))
        assert shape[0] * shape[1] <= score.BATCH_TOKENS
        met += numbers
        held = sum(lengths[number] + len(branches.tokens) for number in numbers)
        assert (arrays["segments"] > 0).sum() == held
        assert (arrays["wanted"] >= 0).sum() == len(numbers) * (branches.wanted >= 0).sum()
    assert sorted(met) == list(range(300))
    assert len(shapes) <= 5


def test_the_layout_of_branches() -> None:
    branches = make_branches([[5], [6, 7], [8, 9, 10]])
    assert branches.tokens.tolist() == [6, 8, 9]
    assert branches.branch.tolist() == [2, 3, 3]
    assert branches.offset.tolist() == [1, 1, 2]
    assert branches.wanted.tolist() == [[5, 6, 8], [-1, 7, -1], [-1, -1, 9], [-1, -1, 10]]
    alone = make_branches([[5], [6]])
    assert (alone.tokens.shape, alone.wanted.tolist()) == ((0,), [[5, 6]])


@pytest.mark.parametrize("prompts, length", [
    ([ids(30)], 0),
    ([ids(30), ids(30)], 29),
    ([ids(30), ids(30)[:12]], 11),
    ([ids(30)[:9] + [1], ids(30)[:9] + [2], ids(30)[:9] + [3, 4]], 9),
    ([ids(30)[:7] + [1], ids(30)[:7] + [2]], 0),
    ([ids(30), ids(30), ids(30, 1)], 0),
    ([ids(30), ids(30)[:8]], 0),
    ([ids(30), ids(30)[:9]], 8),
])  # fmt: skip
def test_the_shared_start(prompts: list[list[int]], length: int) -> None:
    assert shared_length(prompts) == shared_length(prompts[::-1]) == length


@pytest.mark.parametrize("prompts, choices, message", [
    ([[5], []], [[5]], "prompt 2 is empty; expected at least one token"),
    ([[5]], [[5], []], "a continuation has no tokens; expected some text in each"),
    ([ids(11)], [[5]], "the prompt is 11 tokens long; expected at most 10, the model's context"),
    ([ids(9)], [[5], [6, 7, 8]], "a prompt with its continuation is 11 tokens long; expected at "
     "most 10"),
])  # fmt: skip
def test_what_cannot_be_scored(
    prompts: list[list[int]], choices: list[list[int]], message: str
) -> None:
    config = dataclasses.replace(GEMMA1, max_positions=10)
    with pytest.raises(GenerationError) as caught:
        score_continuations(weights(GEMMA1), config, prompts, choices)
    assert message in str(caught.value)
