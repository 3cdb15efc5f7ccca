"""`gemma.sampler` of 2024: greedy answers to a batch of prompts."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.compat.answers import answers
from gemkit.compat.gemma.transformer import (
    Transformer,
    build_positions_from_mask,
    make_causal_attn_mask,
)
from gemkit.compat.gemma.tree import from_tree
from gemkit.compat.missing import names_missing
from gemkit.errors import GenerationError, UsageError
from gemkit.generate.sampling import Sampling

_weights = jax.jit(from_tree, static_argnums=0)
_forward = jax.jit(Transformer.apply, static_argnums=0)


@dataclasses.dataclass(frozen=True)
class SamplerOutput:
    """Answers.

    Attributes:
      text: as strings.
      tokens: as ids; `<eos>` counts, and padding follows it.
      read_logits: computes `logits`.
    """

    text: list[str]
    tokens: list[list[int]]
    read_logits: Any = dataclasses.field(repr=False)

    @functools.cached_property
    def logits(self) -> list[np.ndarray]:
        """Per answer the logits [tokens, V] each token was chosen by, computed when asked for."""
        return list(self.read_logits())


class Sampler:
    """Answers prompts with a model's parameters.

    Args:
      transformer: the model.
      vocab: a `sentencepiece.SentencePieceProcessor`.
      params: the tree, `params["transformer"]`.
    """

    def __init__(
        self, transformer: Transformer, vocab: Any, params: Mapping[str, Any]
    ) -> None:
        if not hasattr(vocab, "EncodeAsIds"):
            raise UsageError(
                f"vocab is a {type(vocab).__name__}", "a sentencepiece.SentencePieceProcessor",
                "gemkit's lm.generate has its own vocabulary",
            )  # fmt: skip
        self.transformer, self.vocab, self.params = transformer, vocab, params

    @property
    def dtype(self) -> Any:
        """Of the parameters."""
        return jax.tree.leaves(self.params)[0].dtype

    def __call__(
        self, input_strings: Sequence[str], total_generation_steps: int, echo: bool = False,
        return_logits: bool = True, forbidden_tokens: Iterable[str] | None = None,
    ) -> SamplerOutput:  # fmt: skip
        """Answers every prompt greedily.

        Args:
          input_strings: the prompts; `<bos>` is put before each.
          total_generation_steps: most new tokens of the longest prompt; shorter ones may go on
            until they are as long together with their answer.
          echo: put the prompt before its answer.
          return_logits: kept; `logits` are computed when they are looked at.
          forbidden_tokens: texts of one token each, never chosen.

        Raises:
          GenerationError: an empty list, or a prompt that fills the model's context.
          UsageError: a forbidden text that is not one token.
        """
        if isinstance(input_strings, str) or not len(input_strings):
            raise GenerationError(f"the prompts are {input_strings!r}", "a list of strings")
        if total_generation_steps < 1:
            raise UsageError(f"total_generation_steps is {total_generation_steps}", "at least 1")
        config, eos = self.transformer.config.gemma, self.vocab.eos_id()
        prompts = [[self.vocab.bos_id(), *self.vocab.EncodeAsIds(s)] for s in input_strings]
        longest = max(map(len, prompts))
        length = max(min(longest + total_generation_steps, config.max_positions), longest)
        sampling = self._sampling(forbidden_tokens)
        limits = [length - len(prompt) for prompt in prompts]
        made = answers(
            _weights(config, self.params), config, prompts, limits, [sampling] * len(prompts),
            (eos,),
        )  # fmt: skip
        closed = [self._closed(p, a, length) for p, a in zip(prompts, made, strict=True)]
        starts = [0 if echo else len(prompt) for prompt in prompts]
        tokens = [row[start:] for row, start in zip(closed, starts, strict=True)]
        text = [self.vocab.DecodeIds(row) for row in tokens]
        return SamplerOutput(text, tokens, lambda: self._logits(closed, starts))

    def _sampling(self, forbidden: Iterable[str] | None) -> Sampling:
        banned = []
        for text in forbidden or ():
            ids = self.vocab.EncodeAsIds(text)
            if len(ids) != 1:
                raise UsageError(f"{text!r} is {len(ids)} tokens", "texts of one token each")
            banned += ids
        return Sampling(banned=tuple(banned))

    def _closed(self, prompt: list[int], answer: list[int], length: int) -> list[int]:
        """Prompt and answer, ended and padded to the length of all."""
        room = length - len(prompt) - len(answer)
        ending = [self.vocab.eos_id(), *[max(self.vocab.pad_id(), 0)] * (room - 1)]
        return [*prompt, *answer, *(ending if room > 0 else [])]

    def _logits(self, rows: list[list[int]], starts: list[int]) -> list[np.ndarray]:
        found = []
        for row, start in zip(rows, starts, strict=True):
            tokens = jnp.asarray([row], jnp.int32)
            mask = jnp.ones_like(tokens, bool)
            out, _ = _forward(
                self.transformer, {"params": self.params}, tokens,
                build_positions_from_mask(mask), None, make_causal_attn_mask(mask),
            )  # fmt: skip
            found.append(np.asarray(out[0, max(start - 1, 0) : -1]))
        return found

__getattr__ = names_missing(__name__, "Sampler, or gemkit's lm.generate, which has settings")
