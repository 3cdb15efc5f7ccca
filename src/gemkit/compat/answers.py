"""Answers as token ids from gemkit's engine, for prompts of the shims."""

from collections.abc import Sequence

from gemkit.generate.decode import power
from gemkit.generate.engine import Engine
from gemkit.generate.request import Request
from gemkit.generate.sampling import Sampling
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params

STEPS, STEPS_TO_A_STOP = 32, 8
"""Forward passes between two looks at the answers."""


def answers(
    params: Params, config: GemmaConfig, prompts: Sequence[Sequence[int]], limits: Sequence[int],
    samplings: Sequence[Sampling], ends: Sequence[int] = (), shown_ends: Sequence[int] = (),
) -> list[list[int]]:  # fmt: skip
    """New tokens for each prompt.

    Args:
      prompts: ids, none empty.
      limits: most new tokens of each; 0 for none.
      samplings: how each is chosen.
      ends: tokens that end an answer and are left out of it.
      shown_ends: tokens that end an answer and stay in it.

    Raises:
      GenerationError: a prompt longer than the model's context.
    """
    engine = Engine(params, config, slots=power(max(len(prompts), 1)))
    made = [
        engine.add(Request(tuple(prompt), limit, tuple(ends), sampling))
        for prompt, limit, sampling in zip(prompts, limits, samplings, strict=True)
    ]
    found: list[list[int]] = [[] for _ in prompts]
    while engine.running():
        engine.step(STEPS_TO_A_STOP if shown_ends else STEPS)
        for answer, tokens in zip(made, found, strict=True):
            new = answer.take()
            last = next((n for n, token in enumerate(new) if token in shown_ends), None)
            tokens += new if last is None else new[: last + 1]
            if last is not None:
                engine.cancel(answer)
    return found
