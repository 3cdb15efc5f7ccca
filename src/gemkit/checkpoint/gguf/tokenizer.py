"""The vocabulary in a GGUF file ↔ a SentencePiece model.

Files differ in how they spell the same vocabulary. Google's own call user-defined pieces normal;
llama.cpp's converter calls those that steer the model control pieces, gives user-defined ones
the score -1000, writes their spaces as spaces, and fills up with pieces `[PAD…]`. gemkit writes as
the converter does, and reads both. Source: llama.cpp `conversion/base.py`, `llama-vocab.cpp`.
"""

import re
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from gemkit.checkpoint.chat_template import chat_template
from gemkit.checkpoint.files import SIZE_LIMITS
from gemkit.checkpoint.gguf.header import Header
from gemkit.errors import ConfigError, TokenizerError
from gemkit.text.tokenizer import Tokenizer
from gemkit.text.tokenizer_json import model_proto

TOKENS = "tokenizer.ggml.tokens"
_SCORES, _TYPES = "tokenizer.ggml.scores", "tokenizer.ggml.token_type"
_MODEL = "tokenizer.ggml.model"

# Types of pieces, the same numbers in GGUF and in SentencePiece.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)

_SPACE = "\u2581"
_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
_PADDING = re.compile(r"\[PAD\d*\]|")
# Google's files have 128 rows more than pieces; Gemma 3 with vision 64.
_MAX_PADDING = 128
_MAX_PIECE = 512  # characters; Gemma's longest have 31

# What a key of ours is called in the file, and the piece it stands for.
_IDS = {
    "tokenizer.ggml.bos_token_id": "<bos>",
    "tokenizer.ggml.eos_token_id": "<eos>",
    "tokenizer.ggml.padding_token_id": "<pad>",
    "tokenizer.ggml.unknown_token_id": "<unk>",
    "tokenizer.ggml.eot_token_id": "<end_of_turn>",
    "tokenizer.ggml.fim_pre_token_id": "<|fim_prefix|>",
    "tokenizer.ggml.fim_suf_token_id": "<|fim_suffix|>",
    "tokenizer.ggml.fim_mid_token_id": "<|fim_middle|>",
    "tokenizer.ggml.fim_sep_token_id": "<|file_separator|>",
}
# The converter calls all of these control pieces where tokenizer_config.json lists them.
_NAMED = {"<bos>": _CONTROL, "<eos>": _CONTROL, "<pad>": _CONTROL, "<unk>": _UNKNOWN}


def read_tokenizer(header: Header) -> Tokenizer:
    """The vocabulary of a file.

    Raises:
        TokenizerError: not a SentencePiece one, damaged, or without Gemma's control pieces.
    """
    where, kind = str(header.path), header.values.get(_MODEL)
    if kind != "llama":
        raise TokenizerError(
            f"{where}: {_MODEL} is {kind!r}", "'llama', a SentencePiece vocabulary",
            "take a file converted from a folder with tokenizer.model",
        )  # fmt: skip
    pieces = vocabulary(header)
    scores, types = (_column(header, key, len(pieces)) for key in (_SCORES, _TYPES))
    table = zip(pieces, scores.tolist(), types.tolist(), strict=True)
    spelt = [_as_sentencepiece(*entry) for entry in table]
    kinds = {piece: code for piece, _, code in spelt}
    _check(where, spelt, kinds)
    proto = model_proto(
        [piece for piece, _, _ in spelt], kinds, {piece: score for piece, score, _ in spelt},
        next(piece for piece, code in kinds.items() if code == _UNKNOWN),
    )  # fmt: skip
    return Tokenizer.from_bytes(proto, f"the vocabulary of {where}")


def _column(header: Header, key: str, count: int) -> np.ndarray:
    """Scores as float32, or types from 1 to 6: one for each piece."""
    found = header.numbers(key)
    length = 0 if found is None else len(found)
    if found is None or length < count:
        raise TokenizerError(
            f"{header.path}: {key} has {length} entries", f"{count}, as {TOKENS}"
        )
    found = found[:count]
    if key == _SCORES:
        with np.errstate(all="ignore"):
            found = found.astype(np.float32)
        fits = np.isfinite(found)
    else:
        fits = (found >= _NORMAL) & (found <= _BYTE)
        found = found.astype(np.int32) if fits.all() else found
    if not fits.all():
        raise TokenizerError(
            f"{header.path}: {key} holds {found[~fits][0]}",
            "numbers" if key == _SCORES else f"types from {_NORMAL} to {_BYTE}",
        )  # fmt: skip
    return found


def vocabulary(header: Header) -> list[str]:
    """The pieces without those that only fill up the table; empty where there is none."""
    pieces = header.strings(TOKENS) or []
    if len(pieces) > SIZE_LIMITS["vocab_size"]:
        raise TokenizerError(f"{header.path} has {len(pieces)} pieces", "a Gemma vocabulary")
    tail = Counter(pieces[-_MAX_PADDING:])
    known = set(pieces[:-_MAX_PADDING])
    used = len(pieces)
    for piece in reversed(pieces[-_MAX_PADDING:]):
        if not _PADDING.fullmatch(piece) and piece not in known and tail[piece] == 1:
            break
        used -= 1
    return pieces[:used]


def _as_sentencepiece(piece: str, score: float, code: int) -> tuple[str, float, int]:
    """Piece, score and type as they were in the SentencePiece model."""
    if piece in _NAMED:
        return piece, 0.0, _NAMED[piece]
    if code in (_UNKNOWN, _UNUSED):
        return piece, score, code
    if _BYTE_PIECE.fullmatch(piece):
        return piece, 0.0, _BYTE
    if code == _BYTE:
        return piece, score, _NORMAL
    # Learnt pieces score minus their rank. The first of them has rank 0 and two characters.
    first = len(piece) == 2 and not piece.isspace() and piece != 2 * _SPACE
    if code == _NORMAL and (score != 0.0 or first):
        return piece, score, code
    return piece.replace(" ", _SPACE), 0.0, _USER_DEFINED


def _check(where: str, spelt: list[tuple[str, float, int]], kinds: dict[str, int]) -> None:
    if len(kinds) < len(spelt):
        ((twice, _),) = Counter(piece for piece, _, _ in spelt).most_common(1)
        raise TokenizerError(f"{where} has the piece {twice[:80]!r} twice", "each piece once")
    for piece, _, code in spelt:
        if not 0 < len(piece) <= _MAX_PIECE or "\0" in piece and code != _NORMAL:
            raise TokenizerError(
                f"{where} has the piece {piece[:80]!r}", f"1 to {_MAX_PIECE} characters"
            )
    if list(kinds.values()).count(_UNKNOWN) != 1 or not {"<bos>", "<eos>"} <= kinds.keys():
        raise TokenizerError(
            f"{where} lacks <bos>, <eos> or a single unknown piece", "a Gemma vocabulary"
        )


def tokenizer_metadata(tokenizer: Tokenizer, rows: int) -> dict[str, Any]:
    """Key → value of a vocabulary, filled up with `[PAD…]` to the rows of the embedding.

    One with turn tokens brings Gemma's chat template.

    Raises:
        ConfigError: the embedding has fewer rows than the vocabulary pieces.
    """
    if tokenizer.vocab_size > rows:
        raise ConfigError(
            f"the vocabulary has {tokenizer.vocab_size} pieces and the embedding {rows} rows",
            "a row for each piece", "check that weights and tokenizer belong together",
        )  # fmt: skip
    table = [
        _as_converted(*entry, token in tokenizer.special_ids)
        for token, entry in enumerate(_sentencepiece_table(tokenizer.proto))
    ]
    table += [(f"[PAD{token}]", -10_000.0, _UNUSED) for token in range(len(table), rows)]
    pieces, scores, types = (list(column) for column in zip(*table, strict=True))
    ids = {key: tokenizer.token_to_id(piece) for key, piece in _IDS.items() if piece in tokenizer}
    return {
        _MODEL: "llama", "tokenizer.ggml.pre": "default", TOKENS: pieces, _SCORES: scores,
        _TYPES: types, **ids, "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False, "tokenizer.ggml.add_space_prefix": False,
        **{f"tokenizer.{key}": value for key, value in chat_template(tokenizer).items()},
    }  # fmt: skip


def _as_converted(piece: str, score: float, code: int, special: bool) -> tuple[str, float, int]:
    """Piece, score and type as llama.cpp's converter writes them."""
    if code == _USER_DEFINED:
        return (piece, score, _CONTROL) if special else (piece.replace(_SPACE, " "), score, code)
    return piece, score, code


def _sentencepiece_table(proto: bytes) -> Iterator[tuple[str, float, int]]:
    """Piece, score and type of each id of a SentencePiece model that has been loaded."""
    for number, value in _fields(proto):
        if number == 1:
            entry = dict(_fields(value))
            (score,) = struct.unpack("<f", entry.get(2, bytes(4)))
            yield entry[1].decode(), score, entry.get(3, _NORMAL)


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protocol buffer's message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        size = {1: 8, 5: 4}.get(tag & 7, 0)
        if tag & 7 == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if tag & 7 == 2:
            size, at = _varint(message, at)
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number, and where the next thing begins."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
