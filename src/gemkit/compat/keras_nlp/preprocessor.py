"""Text to padded rows of ids, as KerasNLP's preprocessors make them."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gemkit.checkpoint.hub.handles import locate
from gemkit.compat.keras_nlp.tokenizer import GemmaTokenizer, as_text
from gemkit.errors import UsageError

SEQUENCE_LENGTH = 1024
"""KerasNLP's default."""


@dataclasses.dataclass
class GemmaCausalLMPreprocessor:
    """Settings and methods of a model's `preprocessor`.

    Attributes:
      tokenizer: the vocabulary.
      sequence_length: tokens of a row, longer texts are cut; also the limit of `generate` if none
        is given.
      add_start_token, add_end_token: whether rows begin with `<bos>` and, for training, end with
        `<eos>`.
    """

    tokenizer: GemmaTokenizer
    sequence_length: int = SEQUENCE_LENGTH
    add_start_token: bool = True
    add_end_token: bool = True
    name: str = "gemma_causal_lm_preprocessor"

    @classmethod
    def from_preset(cls, preset: str | Path, **settings: Any) -> "GemmaCausalLMPreprocessor":
        """That of a preset's name or a folder; settings given count before stored ones."""
        stored = stored_settings(locate(preset))
        return cls(GemmaTokenizer.from_preset(preset), **stored | settings)

    def __call__(
        self, x: Any, y: Any = None, sample_weight: Any = None, sequence_length: int | None = None
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Rows for training.

        Args:
          x: a text, several, or {"prompts": …, "responses": …}, where only responses count.
          y, sample_weight: not used: the next token is the label.
          sequence_length: of the rows, T; None for the preprocessor's own.

        Returns:
          {"token_ids", "padding_mask"} [B, T], labels [B, T] and bool weights [B, T].
        """
        length = sequence_length or self.sequence_length
        single = isinstance(next(iter(x.values())) if isinstance(x, Mapping) else x, str | bytes)
        ids, masks, weights = [], [], []
        for row, begins in self.sequences(x, length + 1):
            ids.append(row + [self.tokenizer.pad_token_id] * (length + 1 - len(row)))
            masks.append([place < len(row) for place in range(length + 1)])
            weights.append([begins <= place < len(row) for place in range(length + 1)])
        tokens = np.asarray(ids, np.int32).reshape(-1, length + 1)
        mask, weight = (np.asarray(m, bool).reshape(-1, length + 1) for m in (masks, weights))
        found = (tokens[:, :-1], mask[:, :-1], tokens[:, 1:], weight[:, 1:])
        token_ids, padding_mask, labels, counted = (a[0] if single else a for a in found)
        return {"token_ids": token_ids, "padding_mask": padding_mask}, labels, counted

    def generate_preprocess(self, x: Any, sequence_length: int | None = None) -> dict[str, Any]:
        """{"token_ids", "padding_mask"} [B, T] of prompts, without `<eos>`."""
        length = sequence_length or self.sequence_length
        single = isinstance(x, str | bytes)
        rows = self.prompt_ids([x] if single else x, length)
        pad = self.tokenizer.pad_token_id
        tokens = np.asarray([row + [pad] * (length - len(row)) for row in rows], np.int32)
        mask = np.asarray([[n < len(row) for n in range(length)] for row in rows], bool)
        found = {"token_ids": tokens, "padding_mask": mask}
        return {name: array[0] for name, array in found.items()} if single else found

    def generate_postprocess(self, x: Mapping[str, Any]) -> Any:
        """The text of {"token_ids", "padding_mask"}, without start, end and padding."""
        tokens, mask = np.asarray(x["token_ids"]), np.asarray(x["padding_mask"], bool)
        kept = mask & ~np.isin(tokens, self.tokenizer.special_token_ids)
        if tokens.ndim == 1:
            return self.tokenizer.detokenize(tokens[kept])
        return [self.tokenizer.detokenize(row[k]) for row, k in zip(tokens, kept, strict=True)]

    def prompt_ids(self, prompts: Sequence[Any], length: int) -> list[list[int]]:
        """The ids of prompts, `<bos>` first, cut at `length`."""
        start = [self.tokenizer.start_token_id]
        return [(start + ids)[:length] for ids in self.tokenizer.tokenize([*map(as_text, prompts)])]

    def sequences(self, x: Any, length: int) -> list[tuple[list[int], int]]:
        """(ids, place from which on they count) of each text, at most `length` ids."""
        return [self._row(start, answer, length) for start, answer in self._pairs(x)]

    def _pairs(self, x: Any) -> list[tuple[list[int], list[int]]]:
        """(ids that do not count, ids that do) of each text."""
        if not isinstance(x, Mapping):
            texts: Sequence[Any] = [x] if isinstance(x, str | bytes) else x
            return [([], ids) for ids in self.tokenizer.tokenize([as_text(t) for t in texts])]
        if x.keys() != {"prompts", "responses"}:
            raise UsageError(
                f"the data has {', '.join(map(str, x))}", "texts, or 'prompts' and 'responses'",
                "for arrays of ids, load the model with preprocessor=None",
            )  # fmt: skip
        sides = [
            [as_text(text) for text in ([side] if isinstance(side, str | bytes) else side)]
            for side in (x["prompts"], x["responses"])
        ]
        if len(sides[0]) != len(sides[1]):
            raise UsageError(
                f"there are {len(sides[0])} prompts and {len(sides[1])} responses", "as many"
            )
        return list(zip(*map(self.tokenizer.tokenize, sides), strict=True))

    def _row(self, start: list[int], answer: list[int], length: int) -> tuple[list[int], int]:
        """A row of at most `length` ids, and where what counts begins."""
        first = [self.tokenizer.start_token_id] if self.add_start_token else []
        last = [self.tokenizer.end_token_id] if self.add_end_token else []
        room = length - len(first) - len(last)
        # Cut in turns, as KerasNLP cuts: neither side below half while the other is longer.
        kept = min(len(start), max(room - len(answer), -(-room // 2)))
        row = [*first, *start[:kept], *answer[: room - kept], *last]
        return row, len(first) + kept if start else 0


def stored_settings(folder: Path) -> dict[str, Any]:
    """Settings in a preset's preprocessor.json, none if it has no such file."""
    try:
        config = json.loads((folder / "preprocessor.json").read_text("utf-8"))["config"]
        names = ("sequence_length", "add_start_token", "add_end_token")
        return {name: config[name] for name in names if config.get(name) is not None}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


CausalLMPreprocessor = Gemma3CausalLMPreprocessor = GemmaCausalLMPreprocessor
