"""Texts and arrays as rows of ids."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from toy_vocabulary import small_vocabulary

from gemkit.compat.keras_nlp.preprocessor import GemmaCausalLMPreprocessor
from gemkit.compat.keras_nlp.rows import to_rows
from gemkit.compat.keras_nlp.tokenizer import GemmaTokenizer
from gemkit.errors import UsageError

TOKENS = GemmaTokenizer(small_vocabulary())
TEXTS = ["the soup was warm", "b"]


def make(length: int = 8) -> GemmaCausalLMPreprocessor:
    return GemmaCausalLMPreprocessor(TOKENS, sequence_length=length)


def test_rows_begin_and_end_and_are_cut() -> None:
    long, short = (TOKENS(text).tolist() for text in TEXTS)
    x, labels, counted = make(5)(TEXTS)
    whole = [2, *long, 1] if len(long) <= 4 else [2, *long[:4], 1]
    assert [*x["token_ids"][0].tolist(), int(labels[0, -1])] == whole
    row = [2, *short, 1]
    assert x["token_ids"][1].tolist() == row + [0] * (5 - len(row))
    assert labels[1].tolist() == row[1:] + [0] * (6 - len(row))
    assert x["padding_mask"][1].sum() == len(row) and counted[1].sum() == len(row) - 1
    one, label, _ = make(5)(TEXTS[1])
    assert np.array_equal(one["token_ids"], x["token_ids"][1])
    assert np.array_equal(label, labels[1])
    rows = to_rows(make(5), TEXTS)
    assert (rows.length, rows.batch_size) == (5, 32)
    assert [list(e.ids) for e in rows.examples] == [whole, row]
    assert all(all(e.target[1:]) for e in rows.examples)


def test_prompts_and_responses_are_cut_in_turns() -> None:
    given = {"prompts": ["abcdefgh"], "responses": ["ijklmnop"]}
    prompt, response = (TOKENS(text[0]).tolist() for text in given.values())
    assert min(len(prompt), len(response)) >= 4
    (example,) = to_rows(make(7), given).examples
    assert list(example.ids) == [2, *prompt[:3], *response[:3], 1]
    assert list(example.target) == [False] * 4 + [True] * 4


def test_prompts_for_generation_have_no_end() -> None:
    found = make(6).generate_preprocess(TEXTS)
    assert found["token_ids"].shape == (2, 6)
    assert found["token_ids"][1, : 1 + len(TOKENS("b"))].tolist() == [2, *TOKENS("b")]
    assert 1 not in found["token_ids"]
    assert make().generate_postprocess(make(20).generate_preprocess(TEXTS)) == TEXTS
    assert make().generate_postprocess(make(20).generate_preprocess("b")) == "b"


def test_a_data_set_of_batches() -> None:
    class Batched:
        def as_numpy_iterator(self) -> Iterator[Any]:
            yield from (np.asarray([b"b", b"the"]), np.asarray([b"soup"]))

    rows = to_rows(make(), Batched())
    assert rows.batch_size == 2
    assert [list(e.ids) for e in rows.examples] == [
        [2, *TOKENS(text), 1] for text in ("b", "the", "soup")
    ]


def test_arrays() -> None:
    x = {"token_ids": [[2, 5, 6, 7], [2, 8, 0, 0]], "padding_mask": [[1] * 4, [1, 1, 0, 0]]}
    labels, weights = [[5, 6, 7, 9], [8, 1, 0, 0]], [[0, 1, 1, 1], [1, 1, 0, 0]]
    rows = to_rows(None, x, labels, weights, 2)
    assert [list(e.ids) for e in rows.examples] == [[2, 5, 6, 7, 9], [2, 8, 1]]
    assert list(rows.examples[0].target) == [False, False, True, True, True]
    assert rows.length == 4
    for wrong in (
        {"y": None}, {"y": [[5, 6, 7], [8, 1, 0]]}, {"y": [[5, 6, 8, 9], [8, 1, 0, 0]]},
        {"sample_weight": [[0.5] * 4] * 2}, {"x": TEXTS},
        {"x": {**x, "padding_mask": [[1, 0, 1, 1], [1, 1, 0, 0]]}},
    ):  # fmt: skip
        with pytest.raises(UsageError):
            to_rows(None, **{"x": x, "y": labels, "sample_weight": weights, **wrong})


def test_the_tokenizer() -> None:
    assert (TOKENS.start_token, TOKENS.end_token, TOKENS.pad_token) == ("<bos>", "<eos>", "<pad>")
    assert TOKENS.token_to_id("<eos>") == TOKENS.end_token_id == 1
    assert TOKENS.token_to_id("no such piece") == small_vocabulary().unk_id
    assert len(TOKENS.get_vocabulary()) == TOKENS.vocabulary_size() == 320
    # Start and end are never read out of a text; other special pieces are.
    turn = "<end_of_turn>"
    assert 1 not in TOKENS("<eos>") and TOKENS(turn).tolist() == [TOKENS.token_to_id(turn)]
    assert TOKENS.detokenize(TOKENS(TEXTS)) == TEXTS
    assert TOKENS.detokenize(TOKENS(TEXTS[0])) == TEXTS[0]
