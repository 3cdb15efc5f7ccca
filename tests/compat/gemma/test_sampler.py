"""Answers of 2024's Sampler, beside a loop over the forward pass."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sentencepiece
import tiny
from toy_vocabulary import small_vocabulary

from gemkit.compat.gemma import params, sampler, transformer
from gemkit.compat.gemma.tree import to_tree
from gemkit.errors import GemkitError
from gemkit.model.config import GemmaConfig

CONFIG = GemmaConfig(
    num_layers=2, hidden_size=24, intermediate_size=20, num_heads=4, num_kv_heads=2, head_dim=8,
    vocab_size=320, query_scale=0.3, max_positions=64,
)  # fmt: skip
PROMPTS = ["the soup", "again and again the soup was"]


@pytest.fixture(scope="module")
def vocab() -> Any:
    """As a notebook loads it."""
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(small_vocabulary().proto)
    return processor


@pytest.fixture(scope="module")
def tree() -> params.Params:
    return params.Params({"transformer": to_tree(CONFIG, tiny.weights(CONFIG))}, CONFIG)


def make(tree: params.Params, vocab: Any) -> sampler.Sampler:
    config = transformer.TransformerConfig.from_params(tree, cache_size=8)
    model = transformer.Transformer(config=config)
    return sampler.Sampler(transformer=model, vocab=vocab, params=tree["transformer"])


def greedy(given: sampler.Sampler, text: str, length: int) -> list[int]:
    """Prompt and answer by whole passes, to the length."""
    row = [given.vocab.bos_id(), *given.vocab.EncodeAsIds(text)]
    forward = jax.jit(given.transformer.apply)
    while len(row) < length:
        tokens = jnp.asarray([row + [0] * (length - len(row))], jnp.int32)
        seen = jnp.ones_like(tokens, bool)
        logits, _ = forward(
            {"params": given.params}, tokens, transformer.build_positions_from_mask(seen), None,
            transformer.make_causal_attn_mask(seen),
        )  # fmt: skip
        row.append(int(logits[0, len(row) - 1].argmax()))
    return row


def test_answers_are_greedy_and_end_together(tree: params.Params, vocab: Any) -> None:
    given = make(tree, vocab)
    longest = 1 + len(vocab.EncodeAsIds(PROMPTS[1]))
    out = given(PROMPTS, total_generation_steps=10)
    for prompt, tokens, text in zip(PROMPTS, out.tokens, out.text, strict=True):
        wanted = greedy(given, prompt, longest + 10)[1 + len(vocab.EncodeAsIds(prompt)) :]
        assert vocab.eos_id() not in wanted
        assert tokens == wanted
        assert text == vocab.DecodeIds(wanted)
    assert out.text[0] != out.text[1]
    for tokens, logits in zip(out.tokens, out.logits, strict=True):
        assert np.asarray(logits).argmax(-1).tolist() == tokens


def test_echo_and_the_end(
    tree: params.Params, vocab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token of an answer as the end: it counts, and padding follows."""
    given = make(tree, vocab)
    whole = given(PROMPTS[:1], total_generation_steps=8).tokens[0]
    end = whole[3]
    monkeypatch.setattr(type(vocab), "eos_id", lambda self: end)
    cut = given(PROMPTS[:1], total_generation_steps=8, echo=True).tokens[0]
    prompt = [vocab.bos_id(), *vocab.EncodeAsIds(PROMPTS[0])]
    first = whole.index(end)
    assert cut == [*prompt, *whole[: first + 1], *[0] * (len(whole) - first - 1)]


def test_forbidden_tokens(tree: params.Params, vocab: Any) -> None:
    given = make(tree, vocab)
    favourite = given(["b"], total_generation_steps=1).tokens[0][0]
    piece = vocab.IdToPiece(favourite)
    if vocab.EncodeAsIds(piece) == [favourite]:
        out = given(["b"], total_generation_steps=1, forbidden_tokens=[piece])
        assert out.tokens[0][0] != favourite
    with pytest.raises(GemkitError, match="texts of one token each"):
        given(["b"], total_generation_steps=1, forbidden_tokens=["the soup was warm"])


def test_errors(tree: params.Params, vocab: Any) -> None:
    given = make(tree, vocab)
    for prompts in ([], "a string"):
        with pytest.raises(GemkitError, match="a list of strings"):
            given(prompts, total_generation_steps=3)
    with pytest.raises(GemkitError, match="total_generation_steps is 0"):
        given(["b"], total_generation_steps=0)
    with pytest.raises(GemkitError, match="sentencepiece.SentencePieceProcessor"):
        make(tree, object())
    with pytest.raises(GemkitError, match="pass that to Sampler"):
        sampler.Sampler(given.transformer, vocab, tree)(["b"], total_generation_steps=3)
    with pytest.raises(GemkitError, match="no init here.*load_and_format_params"):
        getattr(given.transformer, "init")  # noqa: B009
