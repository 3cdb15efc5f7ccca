"""Decoding against a slow loop of full forward passes, one row and one token at a time."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow import GREEDY, slow
from tiny import CONFIGS, GEMMA1, GEMMA2, GEMMA3, VOCABULARY, full_logits, ids, weights

from gemkit.errors import GenerationError
from gemkit.generate import decode
from gemkit.generate.decode import bucket, pad_right, power
from gemkit.generate.engine import Engine
from gemkit.generate.request import Answer, Request
from gemkit.generate.sampling import Sampling
from gemkit.model.config import GemmaConfig

PROMPTS = [ids(24), ids(9, 1), ids(1, 2)]
LIMITS = [20, 20, 7]
SAMPLED = Sampling(temperature=1.5, top_k=30, repetition_penalty=1.2, seed=3)


class Batch:
    """Prompts answered together, nobody joining later."""

    def __init__(
        self, config: GemmaConfig, stops: Sequence[int] = (VOCABULARY - 1,),
        sampling: Sampling = GREEDY, prompts: Sequence[Sequence[int]] = PROMPTS,
        limits: Sequence[int] = LIMITS, dtype: str = "float32",
    ) -> None:  # fmt: skip
        self.engine = Engine(weights(config, dtype), config, slots=power(len(prompts)))
        self.answers: list[Answer] = [
            self.engine.add(Request(tuple(prompt), limit, tuple(stops), sampling))
            for prompt, limit in zip(prompts, limits, strict=True)
        ]

    def advance(self, passes: int) -> list[list[int]]:
        """What some steps give to each row, from the first on that gives anything."""
        new: list[list[int]] = [[] for _ in self.answers]
        while self.engine.running() and not any(new):
            self.engine.step(passes)
            new = [answer.take() for answer in self.answers]
        return new


def finished(batch: Batch, steps: Sequence[int] = (100,)) -> list[list[int]]:
    """Everything it makes, asked for in turns of these numbers of passes."""
    turns = 0
    while batch.engine.running():
        batch.advance(steps[turns % len(steps)])
        turns += 1
        assert turns < 200
    return [answer.tokens for answer in batch.answers]


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_is_the_slow_loop(name: str, small_pieces: None) -> None:
    """The first row grows to 44 tokens, beyond window and ring."""
    config = CONFIGS[name]
    answers = finished(Batch(config, stops=()))
    assert answers == [
        slow(config, prompt, limit) for prompt, limit in zip(PROMPTS, LIMITS, strict=True)
    ]
    assert [len(answer) for answer in answers] == LIMITS


def test_sampled_is_the_slow_loop_in_a_batch_and_alone(small_pieces: None) -> None:
    together = finished(Batch(GEMMA3, sampling=SAMPLED))
    stops = (VOCABULARY - 1,)
    for prompt, limit, answer in zip(PROMPTS, LIMITS, together, strict=True):
        assert answer == slow(GEMMA3, prompt, limit, stops, SAMPLED)
        if len(prompt) <= 16:  # one shape for all
            alone = Batch(GEMMA3, sampling=SAMPLED, prompts=[prompt], limits=[20])
            assert finished(alone)[0][:limit] == answer
    other = finished(Batch(GEMMA3, sampling=dataclasses.replace(SAMPLED, seed=4)))
    assert other != together


def test_a_prompt_longer_than_a_piece_of_the_real_size() -> None:
    """600 tokens are read in two pieces; the ring has 1,024 slots and padding fills a part."""
    prompt = ids(600)
    answer = finished(Batch(GEMMA2, stops=(), prompts=[prompt], limits=[5]))
    assert answer == [slow(GEMMA2, prompt, 5, length=640)]


@pytest.mark.parametrize("steps", [(1,), (3,), (1, 2, 5), (100,)])
def test_turns_do_not_matter(steps: Sequence[int], small_pieces: None) -> None:
    assert finished(Batch(GEMMA1), steps) == finished(Batch(GEMMA1))


def test_advance_gives_what_is_new(small_pieces: None) -> None:
    batch, whole = Batch(GEMMA1), finished(Batch(GEMMA1))
    assert batch.engine.running()
    held: list[list[int]] = [[], [], []]
    while batch.engine.running():
        new = batch.advance(4)
        assert all(len(tokens) <= 4 for tokens in new)
        held = [old + more for old, more in zip(held, new, strict=True)]
        assert held == [answer[: len(so_far)] for answer, so_far in zip(whole, held, strict=True)]
    assert held == whole


def test_a_row_ends_at_a_stop_which_is_left_out(small_pieces: None) -> None:
    whole = finished(Batch(GEMMA1, stops=()))
    stop = whole[0][4]
    many = [stop, *range(VOCABULARY, VOCABULARY + 8)]  # more than one padded block of them
    for stops in ((stop,), many, (whole[1][0], stop)):
        expected = []
        for answer in whole:
            ends = [i for i, token in enumerate(answer) if token in stops]
            expected.append(answer[: ends[0]] if ends else answer)
        assert finished(Batch(GEMMA1, stops=stops), (3,)) == expected
        assert expected != whole


def test_limits_of_rows(small_pieces: None) -> None:
    whole = finished(Batch(GEMMA1, limits=[20] * 3))
    for limits in ([0, 1, 20], [20, 2, 0]):
        answers = finished(Batch(GEMMA1, limits=limits), (4,))
        assert answers == [
            answer[:limit] for answer, limit in zip(whole, limits, strict=True)
        ]  # fmt: skip
    nothing = Batch(GEMMA1, limits=[0, 0, 0])
    assert finished(nothing) == [[], [], []]
    assert not nothing.engine.running()


def test_a_row_that_is_finished_from_outside(small_pieces: None) -> None:
    whole = finished(Batch(GEMMA1))
    batch = Batch(GEMMA1)
    parts = [batch.advance(3), batch.advance(3)]
    batch.engine.cancel(batch.answers[0])
    answers = finished(batch, (5,))
    assert answers[1:] == whole[1:]
    assert answers[0] == whole[0][: len(parts[0][0]) + len(parts[1][0])]
    assert len(answers[0]) < len(whole[0])


def test_the_number_of_stops_and_of_steps_compiles_nothing_anew(small_pieces: None) -> None:
    finished(Batch(GEMMA1, stops=(7,)))
    before = decode.decode_steps._cache_size()
    finished(Batch(GEMMA1, stops=(7, 8, 9)), (2, 5))
    finished(Batch(GEMMA1, limits=[17, 18, 3]), (3,))
    assert decode.decode_steps._cache_size() == before


def test_bfloat16_decodes(small_pieces: None) -> None:
    params = weights(GEMMA3, "bfloat16")
    answer = finished(Batch(GEMMA3, (), GREEDY, PROMPTS[:1], [6], "bfloat16"))[0]
    assert len(answer) == 6
    assert all(0 <= token < VOCABULARY for token in answer)
    exact = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    logits = full_logits(exact, GEMMA3, PROMPTS[0] + answer)[23:-1]
    # Among the likeliest by a margin that rounding explains.
    assert (logits.max(-1) - logits[np.arange(6), answer] < 0.1 * logits.std()).all()


@pytest.mark.parametrize("prompts, message", [
    ([[]], "the prompt is empty; expected at least one token"),
    ([[5], []], "the prompt is empty"),
    ([ids(4097)], "the prompt is 4097 tokens long; expected at most 4096, the model's context"),
    ([[5], [6], ids(5000)], "the prompt is 5000 tokens long"),
])  # fmt: skip
def test_prompts_that_cannot_be_served(prompts: list[list[int]], message: str) -> None:
    with pytest.raises(GenerationError) as caught:
        Batch(GEMMA1, prompts=prompts, limits=[1] * len(prompts))
    assert message in str(caught.value)


def test_lengths_come_from_a_short_list() -> None:
    sizes = [bucket(count) for count in range(1, 3000)]
    assert sorted(set(sizes)) == [
        16, 24, 32, 48, 64, 96, 128, 192, 256, 384, *range(512, 3001, 512), 3072,
    ][: len(set(sizes))]  # fmt: skip
    assert all(size >= count for count, size in enumerate(sizes, 1))
    assert all(bucket(size) == size for size in sizes)
    assert all(size <= 1.5 * count for count, size in enumerate(sizes, 1) if 16 < count <= 512)
    assert [bucket(count, 8) for count in (1, 8, 9, 13)] == [8, 8, 12, 16]
    assert [power(count) for count in (1, 2, 3, 4, 5, 9)] == [1, 2, 4, 4, 8, 16]
    assert [power(count, 16) for count in (1, 16, 17)] == [16, 16, 32]


def test_pieces_are_padded_on_the_right() -> None:
    tokens, counts = pad_right([[5, 6, 7], [8]], rows=4)
    assert tokens[:, :4].tolist() == [[5, 6, 7, 0], [8, 0, 0, 0], [0] * 4, [0] * 4]
    assert (tokens.shape, counts.tolist()) == ((4, 16), [3, 1, 0, 0])
    assert pad_right([ids(17)], 1)[0].shape == (1, 32)
