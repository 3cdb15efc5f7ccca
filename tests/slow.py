"""The slow obvious loop: one row, the whole sequence read again for every token."""

from collections.abc import Sequence

import jax
import numpy as np
from tiny import full_logits, weights

from gemkit.generate.sampling import Sampling, bias_row, make_draws, next_tokens, prompt_counts
from gemkit.model.config import GemmaConfig

GREEDY = Sampling()
draw_next = jax.jit(next_tokens)


def slow(
    config: GemmaConfig, prompt: Sequence[int], limit: int, stops: Sequence[int] = (),
    sampling: Sampling = GREEDY, length: int = 64,
) -> list[int]:  # fmt: skip
    """The answer to one prompt."""
    return slow_scored(config, prompt, limit, stops, sampling, length)[0]


def slow_scored(
    config: GemmaConfig, prompt: Sequence[int], limit: int, stops: Sequence[int] = (),
    sampling: Sampling = GREEDY, length: int = 64,
) -> tuple[list[int], list[float]]:  # fmt: skip
    """The answer and the log-probabilities of its tokens."""
    draws = make_draws([sampling], config.vocab_size)
    counts = prompt_counts(prompt, config.vocab_size)[None]
    bias = bias_row(sampling, config.vocab_size)
    bias = None if bias is None else bias[None]
    sequence, log_probs = list(prompt), []
    for number in range(limit):
        logits = full_logits(weights(config), config, sequence, length)[-1:].astype(np.float32)
        place = np.asarray([len(sequence)], np.int32)
        token = int(draw_next(logits, draws, place, counts, None, bias)[0][0])
        token = sampling.forced[number] if number < len(sampling.forced) else token
        if token in stops and number >= len(sampling.forced):
            break
        shifted = logits[0].astype(np.float64) - logits.max()
        log_probs.append(float(shifted[token] - np.log(np.exp(shifted).sum())))
        counts[0, token] += 2
        sequence.append(token)
    return sequence[len(prompt) :], log_probs
