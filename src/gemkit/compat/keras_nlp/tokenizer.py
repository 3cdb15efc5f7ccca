"""Gemma's vocabulary by KerasNLP's names.

Text is read as SentencePiece itself reads it: `<start_of_turn>` and `<|fim_prefix|>` become tokens
wherever they stand, `<bos>` and `<eos>` never do.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from gemkit.checkpoint.hub.handles import locate
from gemkit.errors import UsageError
from gemkit.text.tokenizer import Tokenizer as Vocabulary


class GemmaTokenizer:
    """Text to ids and back.

    Args:
      proto: a SentencePiece model, its bytes or its file.

    Attributes:
      start_token, end_token, pad_token: `<bos>`, `<eos>`, `<pad>` as the vocabulary spells them.
      start_token_id, end_token_id, pad_token_id: their ids.
      vocabulary: gemkit's own tokenizer of the same model.
    """

    def __init__(self, proto: bytes | str | Path | Vocabulary, **_: Any) -> None:
        if isinstance(proto, Vocabulary):
            self.vocabulary = proto
        elif isinstance(proto, bytes):
            self.vocabulary = Vocabulary.from_bytes(proto)
        else:
            self.vocabulary = Vocabulary.from_file(proto)
        self._pieces = sentencepiece.SentencePieceProcessor()
        self._pieces.load_from_serialized_proto(self.vocabulary.proto)
        self.start_token_id, self.end_token_id = self.vocabulary.bos_id, self.vocabulary.eos_id
        self.pad_token_id = self.vocabulary.pad_id
        ids = (self.start_token_id, self.end_token_id, self.pad_token_id)
        self.start_token, self.end_token, self.pad_token = map(self.id_to_token, ids)
        self.special_tokens = [self.start_token, self.end_token, self.pad_token]
        self.special_token_ids = list(ids)

    @classmethod
    def from_preset(cls, preset: str | Path, **_: Any) -> "GemmaTokenizer":
        """That of a preset's name or a folder; no weights are read.

        Raises:
          ModelNotFoundError, TokenizerError: it is not on disk, or has none.
        """
        return cls(Vocabulary.from_file(locate(preset)))

    @property
    def proto(self) -> bytes:
        """The SentencePiece model."""
        return self.vocabulary.proto

    def vocabulary_size(self) -> int:
        """V."""
        return self.vocabulary.vocab_size

    def get_vocabulary(self) -> list[str]:
        """Every token, by id."""
        return [self.id_to_token(token) for token in range(self.vocabulary_size())]

    def id_to_token(self, id: int) -> str:
        """A token as the vocabulary spells it."""
        return self.vocabulary.id_to_piece(int(id))

    def token_to_id(self, token: str) -> int:
        """Its id; that of `<unk>` for what is no token."""
        return int(self._pieces.piece_to_id(token))

    def tokenize(self, inputs: str | Sequence[str] | np.ndarray) -> Any:
        """A str → ids as an array [T]; several → a list of lists."""
        if isinstance(inputs, str | bytes):
            return np.asarray(self._pieces.encode(as_text(inputs)), np.int32)
        return [self._pieces.encode(as_text(text)) for text in inputs]

    __call__ = tokenize

    def detokenize(self, inputs: Any) -> Any:
        """Ids [T] → a str; rows of ids → a list."""
        rows = np.asarray(inputs).tolist() if hasattr(inputs, "shape") else inputs
        if isinstance(rows, int):
            rows = [rows]
        if not len(rows) or isinstance(rows[0], int | np.integer):
            return self._pieces.decode([int(token) for token in rows])
        return [self._pieces.decode([int(token) for token in row]) for row in rows]


def as_text(given: Any) -> str:
    """A str of a str, UTF-8 bytes or a NumPy string.

    Raises:
      UsageError: something else.
    """
    if isinstance(given, bytes):
        return given.decode("utf-8", "replace")
    if not isinstance(given, str):
        raise UsageError(f"a text is a {type(given).__name__}", "strings")
    return str(given)


Tokenizer = Gemma3Tokenizer = GemmaTokenizer
