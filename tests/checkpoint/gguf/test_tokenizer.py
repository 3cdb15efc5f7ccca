"""The vocabulary in a file, in the spellings of gemkit, of Google and of llama.cpp's converter."""

import importlib.resources
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemkit.checkpoint.gguf import tokenizer as gguf_tokenizer
from gemkit.checkpoint.gguf.header import Header, read_header
from gemkit.checkpoint.gguf.tokenizer import (
    TOKENS,
    read_tokenizer,
    tokenizer_metadata,
    vocabulary,
)
from gemkit.errors import CheckpointError, ConfigError, TokenizerError
from gemkit.text.tokenizer import Tokenizer

SCORES, TYPES = "tokenizer.ggml.scores", "tokenizer.ggml.token_type"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
Metadata = dict[str, Any]
Write = Callable[[Metadata], Header]

TEXTS = (
    "the soup was warm", "  two   spaces,\tone tab\n\n\nlines\n", "수프 🍲 é", " ", "",
    "<start_of_turn>user\nhi<end_of_turn>", "<h1>title</h1> <b>x</b>", "<unused7><mask>[@BOS@]",
    "def f(x):\n    return x\n\n        deep" + " " * 40, "<bos><eos><pad><unk>", "<|fim_prefix|>",
)  # fmt: skip


@pytest.fixture(scope="module")
def nano() -> Tokenizer:
    """The embedded vocabulary, which has every kind of piece that Gemma's has."""
    with importlib.resources.as_file(importlib.resources.files("gemkit") / "presets/nano") as path:
        return Tokenizer.from_file(path)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(metadata: Metadata) -> Header:
        from gemkit.checkpoint.gguf.weights import write_file

        written = {"general.architecture": "gemma", **metadata}
        write_file(tmp_path / "model.gguf", written, {}, {})
        return read_header(tmp_path / "model.gguf")

    return make


def table(tokenizer: Tokenizer) -> list[tuple[str, float, int]]:
    return list(gguf_tokenizer._sentencepiece_table(tokenizer.proto))


def ours(metadata: Metadata) -> Metadata:
    return metadata


def googles(metadata: Metadata) -> Metadata:
    """User-defined pieces are normal ones, and 128 rows are filled up."""
    spelt = [
        (piece.replace(" ", "\u2581"), NORMAL)
        if kind in (CONTROL, USER_DEFINED) and piece not in ("<pad>", "<eos>", "<bos>")
        else (piece, kind)
        for piece, kind in zip(metadata[TOKENS], metadata[TYPES], strict=True)
    ]
    return metadata | {
        TOKENS: [piece for piece, _ in spelt] + ["<pad>"] * 128,
        TYPES: [kind for _, kind in spelt] + [NORMAL] * 128,
        SCORES: metadata[SCORES] + [0.0] * 128,
    }


def converters(metadata: Metadata) -> Metadata:
    """Added pieces have the score -1000, the unknown one too, and 64 rows are filled up."""
    return metadata | {
        TOKENS: metadata[TOKENS] + [f"[PAD{n}]" for n in range(64)],
        TYPES: [CONTROL if kind == UNKNOWN else kind for kind in metadata[TYPES]] + [UNUSED] * 64,
        SCORES: [
            -1000.0 if kind in (UNKNOWN, CONTROL, USER_DEFINED) else score
            for score, kind in zip(metadata[SCORES], metadata[TYPES], strict=True)
        ] + [-10_000.0] * 64,
    }  # fmt: skip


@pytest.mark.parametrize("style", [ours, googles, converters])
def test_every_spelling_is_the_same_vocabulary(
    nano: Tokenizer, write: Write, style: Callable[[Metadata], Metadata]
) -> None:
    header = write(style(tokenizer_metadata(nano, nano.vocab_size)))
    back = read_tokenizer(header)
    assert table(back) == table(nano)
    assert back.special_ids == nano.special_ids
    for text in TEXTS:
        for special in (False, True):
            ids = nano.encode(text, bos=True, parse_special=special)
            assert back.encode(text, bos=True, parse_special=special) == ids
            assert back.decode(ids, skip_special=False) == nano.decode(ids, skip_special=False)


def test_a_vocabulary_of_another_making(tokenizer: Tokenizer, write: Write) -> None:
    back = read_tokenizer(write(tokenizer_metadata(tokenizer, tokenizer.vocab_size)))
    assert table(back) == table(tokenizer)


def test_what_llama_cpp_reads(nano: Tokenizer) -> None:
    found = tokenizer_metadata(nano, nano.vocab_size)
    kinds = dict(zip(found[TOKENS], found[TYPES], strict=True))
    for piece, kind in {
        "<pad>": CONTROL, "<unk>": UNKNOWN, "<unused3>": CONTROL, "<end_of_turn>": CONTROL,
        "<|fim_middle|>": CONTROL, "\n\n": USER_DEFINED, "   ": USER_DEFINED, "<h1>": USER_DEFINED,
        "<0x0A>": BYTE, "\u2581the": NORMAL,
    }.items():  # fmt: skip
        assert kinds[piece] == kind, piece
    ids = {key.removesuffix("_token_id"): value for key, value in found.items() if "_id" in key}
    assert {key.rpartition(".")[2]: nano.id_to_piece(value) for key, value in ids.items()} == {
        "bos": "<bos>", "eos": "<eos>", "unknown": "<unk>", "padding": "<pad>",
        "eot": "<end_of_turn>", "fim_pre": "<|fim_prefix|>", "fim_suf": "<|fim_suffix|>",
        "fim_mid": "<|fim_middle|>", "fim_sep": "<|file_separator|>",
    }  # fmt: skip
    flags = ("add_bos_token", "add_eos_token", "add_space_prefix")
    assert [found[f"tokenizer.ggml.{flag}"] for flag in flags] == [True, False, False]


def test_no_fim_ids_where_there_are_no_fim_pieces(tokenizer: Tokenizer) -> None:
    assert not [key for key in tokenizer_metadata(tokenizer, 320) if "fim" in key]


def test_more_rows_than_pieces(tokenizer: Tokenizer, write: Write) -> None:
    header = write(tokenizer_metadata(tokenizer, tokenizer.vocab_size + 64))
    assert len(header.strings(TOKENS) or []) == tokenizer.vocab_size + 64
    assert len(vocabulary(header)) == read_tokenizer(header).vocab_size == tokenizer.vocab_size
    with pytest.raises(ConfigError, match="320 pieces and the embedding 319 rows"):
        tokenizer_metadata(tokenizer, 319)


def test_the_last_piece_of_a_vocabulary_is_kept(nano: Tokenizer, write: Write) -> None:
    assert vocabulary(write(tokenizer_metadata(nano, nano.vocab_size)))[-1] == nano.id_to_piece(
        nano.vocab_size - 1
    )


def changed(key: str, at: int, value: Any) -> Callable[[Metadata], Metadata]:
    return lambda found: found | {key: [*found[key][:at], value, *found[key][at + 1 :]]}


DAMAGE: dict[str, tuple[Callable[[Metadata], Metadata], str]] = {
    "kind": (lambda found: found | {"tokenizer.ggml.model": "gpt2"}, "is 'gpt2'; expected 'llama'"),
    "no scores": (lambda found: found | {SCORES: []}, "scores has 0 entries; expected 320"),
    "few types": (lambda found: found | {TYPES: found[TYPES][:9]}, "token_type has 9 entries"),
    "twice": (changed(TOKENS, 90, "<eos>"), "the piece '<eos>' twice"),
    "empty": (changed(TOKENS, 90, ""), "the piece ''"),
    "long": (changed(TOKENS, 90, "x" * 9999), "the piece 'xxx"),
    "no character": (lambda found: changed(TYPES, 90, USER_DEFINED)(
        changed(TOKENS, 90, "a\0b")(found)), "the piece 'a"),
    "no number": (changed(SCORES, 319, float("nan")), "scores holds nan"),
    "type": (changed(TYPES, 90, 7), "token_type holds 7; expected types from 1 to 6"),
    "no type": (changed(TYPES, 90, -1), "token_type holds -1"),
    "scores of text": (lambda found: found | {SCORES: found[TOKENS]}, "no array of numbers"),
    "no beginning": (changed(TOKENS, 2, "<s>"), "lacks <bos>, <eos>"),
    "two unknown": (changed(TYPES, 90, UNKNOWN), "a single unknown piece"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_damage(tokenizer: Tokenizer, write: Write, case: str) -> None:
    change, message = DAMAGE[case]
    header = write(change(tokenizer_metadata(tokenizer, 320)))
    with pytest.raises((TokenizerError, CheckpointError), match=message) as caught:
        read_tokenizer(header)
    assert "model.gguf" in str(caught.value) and len(str(caught.value)) < 400
