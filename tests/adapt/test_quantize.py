"""Weights in 8 and 4 bits: how far off, how large, and that every function takes them."""

import copy
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import CONFIGS, assert_close, ids, rows, weights

from gemkit.adapt.lora import Lora, attach, init_adapter, merge
from gemkit.adapt.quantize import bits_of, method_of, quantize, quantized_bytes
from gemkit.errors import UsageError
from gemkit.language_model import LanguageModel
from gemkit.model import linear as linear_module
from gemkit.model import transformer
from gemkit.model.config import GemmaConfig
from gemkit.model.linear import QuantizedWeight, linear, lookup, restored, tied_logits, untied
from gemkit.model.weights import Params, flatten, init_params, specs
from gemkit.summary import facts, human_bytes
from gemkit.train.optimizer import OptimizerSettings, make_optimizer
from gemkit.train.packing import Example, epoch_batches
from gemkit.train.step import init_state, make_train_step

# Widths of 32 and 64, so that 4 bits are 4 bits; a vocabulary that is cut into blocks.
CONFIG = GemmaConfig(
    num_layers=2, hidden_size=32, intermediate_size=64, num_heads=4, num_kv_heads=2, head_dim=16,
    vocab_size=96, query_scale=0.25, attention_pattern=("local", "global"), sliding_window=5,
    final_logit_softcap=5.0, qk_norm=True,
)  # fmt: skip
METHODS = ("int8", "int4")

every_method = pytest.mark.parametrize("method", METHODS)


@functools.cache
def quantized(method: str, dtype: str = "float32") -> Params:
    return quantize(copy.deepcopy(weights(CONFIG, dtype)), CONFIG, method)[0]


@functools.cache
def plain(method: str, dtype: str = "float32") -> Params:
    """The same values as ordinary arrays."""
    return merge(quantized(method, dtype))


def matrix(out: int = 6, width: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(out, width)).astype(np.float32)


def small(values: np.ndarray, method: str) -> QuantizedWeight:
    """A matrix of any shape, quantised as a model's are."""
    config = GemmaConfig(
        num_layers=1, hidden_size=64, intermediate_size=64, num_heads=1, num_kv_heads=1,
        head_dim=64, vocab_size=8, query_scale=1.0,
    )  # fmt: skip
    tree = init_params(config, 0)
    tree["layers"][0]["mlp"]["gate"] = jnp.asarray(values)
    return quantize(tree, config, method)[0]["layers"][0]["mlp"]["gate"]


def test_eight_bits_are_rows_of_127ths() -> None:
    values = matrix()
    found = small(values, "int8")
    assert (found.values.dtype, found.scales.shape, found.shape) == (jnp.int8, (6, 1), (6, 64))
    steps = np.abs(values).max(1, keepdims=True) / 127
    assert np.asarray(found.scales) == pytest.approx(steps)
    assert np.abs(np.asarray(restored(found)) - values).max() <= steps.max() * 0.5001


def test_four_bits_are_groups_whose_largest_is_kept() -> None:
    values = matrix()
    found = small(values, "int4")
    assert (found.values.dtype, found.values.shape) == (jnp.uint8, (6, 32))
    assert (found.scales.dtype, found.scales.shape, found.shape) == (jnp.float16, (6, 2), (6, 64))
    groups = values.reshape(6, 2, 32)
    back = np.asarray(restored(found)).reshape(6, 2, 32)
    largest = np.abs(groups).argmax(-1)[..., None]
    kept, expected = (np.take_along_axis(side, largest, -1) for side in (back, groups))
    assert kept == pytest.approx(expected, rel=1e-3)
    # Codes run from -8 to 7, so only what lies beyond 7.5 steps on the far side is off by more.
    steps = np.abs(expected) / 8
    assert (np.abs(back - groups) <= 1.01 * steps).all()
    assert (np.abs(back - groups) <= 0.51 * steps).mean() > 0.95


@every_method
def test_zeros_stay_zeros(method: str) -> None:
    values = matrix()
    values[2] = 0
    assert not np.asarray(restored(small(values, method)))[2].any()


@every_method
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_size_is_what_was_said(method: str, dtype: str) -> None:
    tree = quantized(method, dtype)
    total = sum(leaf.nbytes for _, leaf in flatten(tree))
    assert total == quantized_bytes(CONFIG, method, jnp.dtype(dtype).itemsize)
    assert total < sum(leaf.nbytes for _, leaf in flatten(weights(CONFIG, dtype)))
    assert method_of(tree) == method and method_of(weights(CONFIG)) is None
    for path, spec in specs(CONFIG).items():
        leaf = dict(flatten(tree))[path]
        assert (leaf.shape, leaf.dtype) == (spec.shape, jnp.dtype(dtype))
        assert isinstance(leaf, QuantizedWeight) == (bits_of(spec, method) is not None)


@every_method
def test_the_summary_says_its_size(method: str) -> None:
    lm = LanguageModel("small", CONFIG, quantized(method, "bfloat16"), None)
    size = human_bytes(quantized_bytes(CONFIG, method, 2))
    assert f"({size})" in lm.summary()
    assert facts(CONFIG, 2, Lora(), method).weight_bytes == quantized_bytes(CONFIG, method, 2)


def test_rows_that_make_no_groups_take_eight_bits() -> None:
    config = CONFIGS["gemma1"]  # 24 wide
    assert {bits_of(spec, "int4") for spec in specs(config).values()} == {None, 8, 4}
    assert bits_of(specs(config)["layers.0.attn.q"], "int4") == 8
    assert bits_of(specs(config)["layers.0.attn.o"], "int4") == 4


def test_the_report_says_how_far_off() -> None:
    tree = copy.deepcopy(weights(CONFIG))
    _, report = quantize(tree, CONFIG, "int4")
    assert [row.kind for row in report] == ["embed", "q", "k", "v", "o", "gate", "up", "down"]
    assert {row.kind: row.bits for row in report} == dict.fromkeys("qkvo", 4) | {
        "embed": 8, "gate": 4, "up": 4, "down": 4
    }  # fmt: skip
    for row in report:
        low, high = (0.001, 0.02) if row.bits == 8 else (0.03, 0.12)
        assert low < row.mean <= row.largest < high
    gate = [f"layers.{i}.mlp.gate" for i in range(2)]
    before, after = dict(flatten(weights(CONFIG))), dict(flatten(tree))
    errors = [
        np.linalg.norm(before[p] - np.asarray(restored(after[p]))) / np.linalg.norm(before[p])
        for p in gate
    ]
    found = next(row for row in report if row.kind == "gate")
    assert found.mean == pytest.approx(np.mean(errors))
    assert found.largest == pytest.approx(max(errors))


@every_method
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_contractions_are_those_of_the_plain_matrix(
    method: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_module, "_BLOCK_ELEMENTS", 600)
    table, same = quantized(method, dtype)["embed"], plain(method, dtype)["embed"]
    close = functools.partial(assert_close, tolerance=2e-6 if dtype == "float32" else 0.02)
    draw = np.random.default_rng(1)
    states = jnp.asarray(draw.normal(size=(5, 32)), dtype)
    slopes = jnp.asarray(draw.normal(size=(5, 96)), dtype)
    for count in (1, 5):
        found = jax.jit(tied_logits)(states[:count], table)
        assert found.dtype == jnp.float32
        close(found, tied_logits(states[:count], same))
    close(jax.jit(untied)(slopes, table), untied(slopes, same))
    tokens = jnp.asarray([[3, 95, 200]])
    close(lookup(table, tokens), lookup(same, tokens))
    for path in ("layers.0.attn.q", "layers.1.mlp.down"):
        leaf, matrix = dict(flatten(quantized(method, dtype)))[path], dict(
            flatten(plain(method, dtype)))[path]  # fmt: skip
        for count in (1, 5):
            x = jnp.asarray(draw.normal(size=(count, matrix.shape[1])), dtype)
            found = jax.jit(linear)(x, leaf)
            assert found.dtype == x.dtype
            close(found, linear(x, matrix))


@every_method
def test_the_model_is_that_of_the_plain_weights(method: str) -> None:
    tree = rows([ids(14), ids(9, 1)], 16)
    found = [
        transformer.logits(params, CONFIG, transformer.hidden(params, CONFIG, **tree))
        for params in (quantized(method), plain(method), weights(CONFIG))
    ]
    assert_close(found[0], found[1], 2e-5)
    assert np.abs(np.asarray(found[0]) - np.asarray(found[2])).max() > 1e-3


def batch() -> dict[str, Any]:
    examples = [Example(ids(n, n), [False] * 4 + [True] * (n - 4)) for n in (12, 9, 11)]
    return epoch_batches(examples, row_length=24, rows=2, seed=0, epoch=0)[0].arrays()


@every_method
@pytest.mark.parametrize("lora", [Lora(2), Lora(2, dora=True)], ids=["lora", "dora"])
def test_adapters_train_on_top(method: str, lora: Lora) -> None:
    """Losses and gradients are those over the plain matrices; training lowers the loss."""
    rule = make_optimizer(OptimizerSettings("sgd", 0.02, "constant", 0, clip_norm=None), 5)
    step = make_train_step(CONFIG, lora, rule)
    found = []
    for base in (quantized(method), plain(method)):
        state = init_state(init_adapter(CONFIG, lora, 0, base), rule, seed=0)
        losses = []
        for _ in range(4):
            state, result = step(state, base, batch())
            losses.append(float(result.sums.loss))
        found.append((losses, state.trained))
    (losses, trained), (expected, same) = found
    assert losses == pytest.approx(expected, rel=1e-4)
    assert losses[-1] < losses[0]
    for path, leaf in flatten(trained):
        assert_close(leaf, dict(flatten(same))[path], 1e-3)


@every_method
def test_merging_gives_plain_weights(method: str) -> None:
    lora = Lora(2, targets=("q", "up"))
    adapter = init_adapter(CONFIG, lora, 0)
    adapter = jax.tree.map(lambda leaf: leaf + 0.1, adapter)
    found = merge(attach(quantized(method), adapter, lora))
    expected = merge(attach(plain(method), adapter, lora))
    for path, leaf in flatten(found):
        assert_close(leaf, dict(flatten(expected))[path])


def test_what_cannot_be_quantised() -> None:
    with pytest.raises(UsageError, match="quantize is 'int2'; expected one of int8, int4"):
        quantize(copy.deepcopy(weights(CONFIG)), CONFIG, "int2")
    with pytest.raises(UsageError, match="embed is a QuantizedWeight"):
        quantize(copy.deepcopy(quantized("int8")), CONFIG, "int4")
