"""The memory plan: exact parts, XLA's own analysis beside the estimates, what to change."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from gemkit.adapt.lora import Lora, count_adapter, init_adapter
from gemkit.adapt.quantize import bits_of, in_bits, quantized_bytes
from gemkit.kernels.dot import available
from gemkit.model import transformer
from gemkit.model.cache import init_cache
from gemkit.model.config import GemmaConfig
from gemkit.model.variants import GEMMA_2B, VARIANTS
from gemkit.model.weights import Spec, abstract_params, count_parameters, specs, unflatten
from gemkit.train.optimizer import OptimizerSettings, make_optimizer
from gemkit.train.plan import (
    ACCURACY,
    OPTIMIZER_TREES,
    Plan,
    Tuning,
    advice,
    plan_running,
    plan_tuning,
)
from gemkit.train.step import init_state, make_train_step

SMALL = GemmaConfig(
    num_layers=2, hidden_size=128, intermediate_size=512, num_heads=4, num_kv_heads=1,
    head_dim=32, vocab_size=2048, query_scale=32**-0.5,
)  # fmt: skip
DEEP = dataclasses.replace(SMALL, num_layers=4, intermediate_size=1536, num_kv_heads=2)
WIDE = dataclasses.replace(GEMMA_2B, num_layers=3, vocab_size=32768)
LORA = Lora(rank=4)
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def ints(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def needed(lowered: Any) -> tuple[int, int]:
    """(bytes of the arguments, bytes of all), as XLA tells after compiling."""
    told = lowered.compile(compiler_options=QUICKLY).memory_analysis()
    arguments = told.argument_size_in_bytes
    results = told.output_size_in_bytes - told.alias_size_in_bytes
    return arguments, arguments + results + told.temp_size_in_bytes


def weights_of(config: GemmaConfig, dtype: str, quantize: str | None) -> Any:
    """Shapes and dtypes of a tree."""
    if quantize is None:
        return abstract_params(config, dtype)

    def leaf(spec: Spec) -> Any:
        if (bits := bits_of(spec, quantize)) is None:
            return jax.ShapeDtypeStruct(spec.shape, dtype)
        plain = jax.ShapeDtypeStruct(spec.shape, dtype)
        return jax.eval_shape(lambda matrix: in_bits(matrix, bits), plain)

    return unflatten({path: leaf(spec) for path, spec in specs(config).items()})


def tuning_step(given: Tuning) -> Any:
    dtype = {4: "float32", 2: "bfloat16"}[given.itemsize]
    rule = make_optimizer(OptimizerSettings(name=given.optimizer), 10)  # type: ignore[arg-type]
    trained: Any = weights_of(given.config, dtype, given.quantize)
    frozen = {} if given.lora is None else trained
    if given.lora is not None:
        trained = jax.eval_shape(lambda: init_adapter(given.config, given.lora, 0))
    state = jax.eval_shape(lambda tree: init_state(tree, rule, 0), trained)
    slots, row = given.batch_tokens, given.row_length or given.batch_tokens
    batch = {
        **{name: ints(slots // row, row) for name in ("tokens", "positions", "segments")},
        "target_index": ints(slots), "target_ids": ints(slots),
        "target_weights": jax.ShapeDtypeStruct((slots,), jnp.float32),
    }  # fmt: skip
    return make_train_step(given.config, given.lora, rule, given.remat).lower(state, frozen, batch)


@pytest.mark.parametrize(
    ("config", "itemsize", "lora", "remat", "optimizer", "row", "quantize"),
    [
        (SMALL, 4, LORA, "off", "adamw", 512, None),
        (SMALL, 4, LORA, "layer", "adamw", 256, None),
        (DEEP, 4, LORA, "full", "adamw", 512, None),
        (DEEP, 2, LORA, "off", "adamw", 256, None),
        (DEEP, 2, LORA, "layer", "adamw", 512, None),
        (SMALL, 2, LORA, "full", "adamw", 512, None),
        (SMALL, 4, None, "off", "adamw", 512, None),
        (DEEP, 4, None, "full", "sgd", 256, None),
        (WIDE, 2, LORA, "off", "adamw", 512, "int8"),
        (WIDE, 2, LORA, "full", "adamw", 512, "int4"),
        (WIDE, 4, LORA, "off", "adamw", 512, "int4"),
    ],
)
def test_a_step_needs_what_xla_says(
    config: GemmaConfig, itemsize: int, lora: Lora | None, remat: Any, optimizer: str, row: int,
    quantize: str | None,
) -> None:  # fmt: skip
    given = Tuning(
        config=config, itemsize=itemsize, lora=lora, remat=remat, optimizer=optimizer,
        batch_tokens=512, row_length=row, quantize=quantize, kernels=available(),
    )  # fmt: skip
    plan = plan_tuning(given)
    arguments, total = needed(tuning_step(given))
    assert plan.weights + plan.optimizer == pytest.approx(arguments, rel=0.02)
    ratio = (plan.total - plan.spare) / total
    assert ACCURACY[0] < ratio < ACCURACY[1], f"{plan.total - plan.spare} planned, {total} needed"


@pytest.mark.parametrize(
    ("config", "dtype", "rows", "columns", "quantize"),
    [
        (SMALL, "float32", 2, 512, None), (DEEP, "bfloat16", 1, 512, None),
        (DEEP, "float32", 4, 512, None), (WIDE, "bfloat16", 1, 512, None),
        (WIDE, "bfloat16", 1, 512, "int4"), (WIDE, "float32", 1, 512, "int8"),
    ],
)  # fmt: skip
def test_an_answer_needs_what_xla_says(
    config: GemmaConfig, dtype: str, rows: int, columns: int, quantize: str | None
) -> None:
    def step(params: Any, tokens: jax.Array, counts: jax.Array, cache: Any) -> Any:
        states, cache = transformer.hidden_cached(params, config, tokens, counts, cache)
        return transformer.logits(params, config, states[:, -1]), cache

    cache = jax.eval_shape(lambda: init_cache(config, rows, 1024, dtype))
    params = weights_of(config, dtype, quantize)
    lowered = jax.jit(step, donate_argnums=3).lower(
        params, ints(rows, columns), ints(rows), cache
    )
    arguments, total = needed(lowered)
    plan = plan_running(
        config, jnp.dtype(dtype).itemsize, rows=rows, length=1024, quantize=quantize,
        kernels=available(),
    )  # fmt: skip
    assert plan.weights + plan.cache == pytest.approx(arguments, rel=0.02)
    assert ACCURACY[0] < plan.total / total < ACCURACY[1], f"{plan.total} planned, {total} needed"


def test_computing_again_saves_memory() -> None:
    """Guards the options of the step: XLA:CPU drops what `jax.checkpoint` asks for by itself."""
    deep = Tuning(config=DEEP, lora=LORA)
    totals = [
        needed(tuning_step(dataclasses.replace(deep, remat=remat)))[1] for remat in ("off", "full")
    ]
    assert totals[1] < 0.6 * totals[0]


@pytest.mark.parametrize("name", ["adamw", "sgd", "adafactor"])
def test_optimizers_keep_as_many_trees_as_the_table_says(name: str) -> None:
    rule = make_optimizer(OptimizerSettings(name=name), 10)  # type: ignore[arg-type]
    tree = abstract_params(GEMMA_2B, "float32")
    count = sum(leaf.size for leaf in jax.tree.leaves(tree))
    kept = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(rule.init, tree)))
    assert kept / count == pytest.approx(OPTIMIZER_TREES[name], abs=0.01)


def test_exact_parts_of_gemma_2b() -> None:
    plan = plan_tuning(Tuning(config=GEMMA_2B, itemsize=2, lora=LORA))
    adapter = 4 * count_adapter(GEMMA_2B, LORA)
    assert plan.weights == 2 * count_parameters(GEMMA_2B) + adapter
    assert (plan.gradients, plan.optimizer, plan.spare) == (adapter, 2 * adapter, adapter)
    small = plan_tuning(Tuning(config=GEMMA_2B, itemsize=2, lora=LORA, quantize="int4"))
    assert small.weights == quantized_bytes(GEMMA_2B, "int4", 2) + adapter
    assert plan_running(GEMMA_2B, 2, length=100).cache == 100 * 18 * 1024


def test_accelerators_make_no_copies() -> None:
    given = Tuning(config=GEMMA_2B, itemsize=2, lora=LORA)
    assert plan_tuning(given).copies > 0
    there = plan_tuning(dataclasses.replace(given, platform="gpu"))
    assert (there.copies, there.spare) == (0, 0)


def test_kernels_copy_only_what_is_quantised() -> None:
    matrices = sum(spec.size for spec in specs(GEMMA_2B).values() if spec.linear)
    for itemsize, quantize, size in ((4, None, 0), (2, None, 0), (2, "int8", 2), (4, "int4", 4)):
        plan = plan_running(GEMMA_2B, itemsize, quantize=quantize, kernels=True)
        assert plan.copies == size * matrices
    assert plan_running(GEMMA_2B, 2).copies == 4 * matrices


@pytest.mark.parametrize("name", list(VARIANTS))
def test_advice_is_less_and_sorted(name: str) -> None:
    for lora in (None, LORA):
        given = Tuning(config=VARIANTS[name].config, lora=lora)
        totals = [plan.total for _, plan in advice(given)]
        assert totals == sorted(totals) and max(totals) < plan_tuning(given).total


def test_advice_names_what_there_is_to_change() -> None:
    named = {name for name, _ in advice(Tuning(config=GEMMA_2B, itemsize=4, lora=LORA))}
    assert named >= {
        "remat full", "bfloat16 and remat full", "quantize int8 and remat full",
        "fewer batch tokens",
    }  # fmt: skip
    assert "LoRA instead of all weights" in dict(advice(Tuning(config=GEMMA_2B)))


def test_verdicts() -> None:
    plan = Plan(weights=1000)
    assert [plan.verdict(free) for free in (1200, 900, 700)] == ["fits", "tight", "too large"]
    assert plan.verdict(200, held=900) == "fits"
