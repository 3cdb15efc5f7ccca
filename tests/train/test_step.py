"""Training steps: what they change, and that packing, chunks and recomputing change nothing."""

import dataclasses
import functools
import re
from collections.abc import Iterable
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import CONFIGS, GEMMA1, GEMMA2, assert_close, ids, weights

from gemkit.adapt.lora import Adapter, Lora, init_adapter
from gemkit.kernels import native
from gemkit.model import transformer
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params, flatten, specs, unflatten
from gemkit.train.loop import REMATS
from gemkit.train.loss import Sums
from gemkit.train.optimizer import OptimizerSettings, make_optimizer
from gemkit.train.packing import Batch, Example, epoch_batches, pad_batches
from gemkit.train.step import (
    TrainState,
    assemble,
    init_state,
    loss_sums,
    make_train_step,
    make_valid_step,
    result_tree,
)

LORA = Lora(rank=2, alpha=3.0, targets=("q", "k", "down"))
SGD = optax.sgd(0.01)
RULE = make_optimizer(OptimizerSettings(learning_rate=0.01, schedule="constant", warmup=0), 10)

every_config = pytest.mark.parametrize("name", CONFIGS)


def examples(count: int = 9, longest: int = 16) -> list[Example]:
    """Of 2 up to `longest` tokens, with gaps between the targets."""
    draw = np.random.default_rng(0)
    made = []
    for number, length in enumerate(draw.integers(2, longest + 1, count)):
        target = [False, *(draw.random(length - 2) < 0.5).tolist(), True]
        made.append(Example(ids(int(length), number), target))
    return made


def batches(pack: bool) -> list[Batch]:
    """Two rows of 24 tokens a batch, or three rows of one example each."""
    if pack:
        return list(epoch_batches(examples(), row_length=24, rows=2, seed=0, epoch=0))
    return list(pad_batches(examples(), rows=3, seed=0, epoch=0))


def random_adapter(config: GemmaConfig, lora: Lora = LORA) -> Adapter:
    draw = np.random.default_rng(4)
    fresh = init_adapter(config, lora, seed=0)
    return jax.tree.map(lambda leaf: jnp.asarray(draw.normal(size=leaf.shape) * 0.1, "f4"), fresh)


@functools.partial(jax.jit, static_argnums=(0, 1))
def sums_and_gradients(
    config: GemmaConfig, lora: Lora | None, trained: Any, frozen: Params, batch: Any
) -> tuple[Sums, Any]:
    def total(trained: Any) -> tuple[jax.Array, Sums]:
        params = assemble(frozen, trained, lora)
        sums = loss_sums(params, config, batch, frozen_head=lora is not None)
        return sums.loss, sums

    gradients, sums = jax.grad(total, has_aux=True)(trained)
    return sums, gradients


def added(parts: Iterable[Any]) -> Any:
    return functools.reduce(lambda a, b: jax.tree.map(jnp.add, a, b), parts)


@every_config
def test_packed_is_padded(name: str) -> None:
    """Sums and gradients of an epoch, over unequal batches, do not depend on the layout."""
    config, trained = CONFIGS[name], random_adapter(CONFIGS[name])
    found = []
    for pack in (True, False):
        runs = [
            sums_and_gradients(config, LORA, trained, weights(config), batch.arrays())
            for batch in batches(pack)
        ]
        assert len(runs) >= 2
        found.append(added(runs))
    (packed, packed_slopes), (padded, padded_slopes) = found
    assert float(packed.weight) == float(padded.weight) == sum(sum(e.target) for e in examples())
    assert float(packed.loss) == pytest.approx(float(padded.loss), rel=1e-5)
    assert float(packed.correct) == float(padded.correct)
    for path, leaf in flatten(packed_slopes):
        assert_close(leaf, dict(flatten(padded_slopes))[path], 2e-4)


def plain_loss(params: Params, config: GemmaConfig, batch: Batch) -> jax.Array:
    """All states, all logits, one log_softmax; the targets are picked at the end."""
    places = (jnp.asarray(array) for array in (batch.tokens, batch.positions, batch.segments))
    states = transformer.hidden(params, config, *places)
    log_p = jax.nn.log_softmax(transformer.logits(params, config, states))
    log_p = log_p.reshape(-1, config.vocab_size)[batch.target_index, batch.target_ids]
    return -(log_p * batch.target_weights).sum()


def test_gradients_of_all_weights_are_those_of_the_plain_loss() -> None:
    """The tied embedding gets its gradient from both its ends."""
    params, batch = weights(GEMMA2), batches(True)[0]
    sums, slopes = sums_and_gradients(GEMMA2, None, params, {}, batch.arrays())
    value, expected = jax.jit(jax.value_and_grad(lambda p: plain_loss(p, GEMMA2, batch)))(params)
    assert float(sums.loss) == pytest.approx(float(value), rel=1e-5)
    for path, slope in flatten(slopes):
        assert_close(slope, dict(flatten(expected))[path], 2e-4)


@every_config
def test_adapter_gradients_are_finite_differences(name: str) -> None:
    config, trained, batch = CONFIGS[name], random_adapter(CONFIGS[name]), batches(True)[0]
    run = functools.partial(sums_and_gradients, config, LORA)
    slopes = dict(flatten(run(trained, weights(config), batch.arrays())[1]))
    step = 0.01
    for path in ("layers.0.attn.k", "layers.1.mlp.down"):
        for part in ("a", "b"):
            slope = np.asarray(slopes[f"{path}.{part}"])
            place = np.unravel_index(np.abs(slope).argmax(), slope.shape)

            def loss(change: float, path=path, part=part, place=place) -> float:
                pair = trained[path] | {part: trained[path][part].at[place].add(change)}
                changed = trained | {path: pair}
                return float(run(changed, weights(config), batch.arrays())[0].loss)

            expected = (loss(step) - loss(-step)) / (2 * step)
            assert slope[place] == pytest.approx(expected, rel=0.02), (path, part)


def test_a_lora_step_changes_the_adapter_and_nothing_else() -> None:
    config, base = GEMMA1, weights(GEMMA1)
    before = {path: np.array(leaf) for path, leaf in flatten(base)}
    fresh = init_adapter(config, LORA, seed=0)
    state = init_state(jax.tree.map(jnp.copy, fresh), RULE, seed=0)
    step = make_train_step(config, LORA, RULE)
    batch = batches(True)[0].arrays()
    state, first = step(state, base, batch)
    assert all(pair["b"].any() for pair in state.trained.values())
    assert all(np.array_equal(state.trained[p]["a"], fresh[p]["a"]) for p in fresh)  # b was zero
    state, second = step(state, base, batch)
    assert not any(np.array_equal(state.trained[p]["a"], fresh[p]["a"]) for p in fresh)
    assert int(state.step) == 2
    assert float(second.sums.loss) < float(first.sums.loss)
    assert {path: np.array_equal(leaf, before[path]) for path, leaf in flatten(base)} == {
        path: True for path in before
    }


def test_a_full_step_changes_every_weight() -> None:
    config, base, batch = GEMMA2, weights(GEMMA2), batches(True)[0].arrays()
    state = init_state(jax.tree.map(jnp.copy, base), RULE, seed=0)
    step = make_train_step(config, None, RULE)
    results = []
    for _ in range(5):
        state, result = step(state, {}, batch)
        results.append(result)
    losses = [float(result.sums.loss) for result in results]
    assert losses == sorted(losses, reverse=True)
    after = dict(flatten(state.trained))
    assert not any(np.array_equal(leaf, after[path]) for path, leaf in flatten(base))
    sums, slopes = sums_and_gradients(config, None, base, {}, batch)
    norm = float(optax.tree.norm(slopes)) / float(sums.weight)
    assert float(results[0].gradient_norm) == pytest.approx(norm, rel=1e-4)


def test_a_step_is_the_optimizers_rule_on_the_mean_loss() -> None:
    config, trained, batch = GEMMA1, random_adapter(GEMMA1), batches(True)[0].arrays()
    sums, slopes = sums_and_gradients(config, LORA, trained, weights(config), batch)
    slopes = jax.tree.map(lambda slope: slope / np.asarray(sums.weight), slopes)

    @jax.jit
    def after(trained: Any, slopes: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            updates, _ = RULE.update(slopes, RULE.init(trained), trained)
            return optax.apply_updates(trained, updates)

    expected = after(trained, slopes)
    state = init_state(jax.tree.map(jnp.copy, trained), RULE, seed=0)
    state, result = make_train_step(config, LORA, RULE)(state, weights(config), batch)
    for path, leaf in flatten(state.trained):
        assert_close(leaf, dict(flatten(expected))[path], 1e-4)
    assert float(result.gradient_norm) == pytest.approx(float(optax.tree.norm(slopes)), rel=1e-4)
    assert float(result.sums.loss) == pytest.approx(float(sums.loss), rel=1e-5)


def test_padding_targets_are_not_learnt() -> None:
    """A batch whose weights are all 0 has sums of 0 and moves nothing."""
    batch = batches(True)[0].arrays()
    batch["target_weights"] = np.zeros_like(batch["target_weights"])
    trained = random_adapter(GEMMA1)
    sums, slopes = sums_and_gradients(GEMMA1, LORA, trained, weights(GEMMA1), batch)
    assert [float(x) for x in sums] == [0, 0, 0]
    assert not any(leaf.any() for leaf in jax.tree.leaves(slopes))
    state = init_state(jax.tree.map(jnp.copy, trained), SGD, seed=0)
    state, result = make_train_step(GEMMA1, LORA, SGD)(state, weights(GEMMA1), batch)
    assert all(np.array_equal(state.trained[p]["a"], trained[p]["a"]) for p in trained)
    assert float(result.gradient_norm) == 0


def test_the_same_settings_are_compiled_once() -> None:
    lora, again = (dataclasses.replace(LORA, targets=targets) for targets in (("q",), ["q"]))
    assert make_train_step(GEMMA1, lora, SGD) is make_train_step(GEMMA1, again, SGD)
    assert make_valid_step(GEMMA1, lora) is make_valid_step(GEMMA1, again)
    assert make_train_step(GEMMA1, lora, SGD) is not make_train_step(GEMMA1, lora, SGD, "full")


def test_a_nan_weight_shows_in_the_sums() -> None:
    valid, batch = make_valid_step(GEMMA1, LORA), batches(True)[0].arrays()
    for path in ("embed", "layers.1.attn.q", "layers.0.mlp.up", "final_norm"):
        leaves = dict(flatten(weights(GEMMA1)))
        leaves[path] = leaves[path].at[3].set(jnp.nan)
        sums = valid(random_adapter(GEMMA1), unflatten(leaves), batch)
        assert np.isnan(sums.loss), path
        assert float(sums.weight) == batch["target_weights"].sum()


def test_recomputing_drops_the_same_inputs() -> None:
    batch, lora = batches(True)[0].arrays(), Lora(rank=2, dropout=0.3, targets=("v", "up"))
    found, products = [], []
    for remat in REMATS:
        state = init_state(random_adapter(GEMMA1, lora), SGD, seed=0)
        step = make_train_step(GEMMA1, lora, SGD, remat=remat)
        text = str(step.trace(state, weights(GEMMA1), batch).jaxpr)
        products.append(text.count("dot_general"))
        assert ("remat" in text) == (remat != "off")
        state, result = step(state, weights(GEMMA1), batch)
        found.append((float(result.sums.loss), float(result.gradient_norm)))
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0] == pytest.approx(found[2], rel=1e-5)
    # By layer only the products of attention are computed again, two a layer; in full all are.
    off, layer, full = products
    assert off < layer <= off + 2 * 3 * GEMMA1.num_layers < full


def dots(lora: Lora | None) -> list[tuple[int, ...]]:
    """Shapes of all matrix products' results in a training step of a deep thin model."""
    config = dataclasses.replace(GEMMA1, num_layers=6)
    trained = weights(config) if lora is None else init_adapter(config, lora, seed=0)
    state = jax.eval_shape(lambda tree: init_state(tree, SGD, seed=0), trained)
    frozen = {} if lora is None else weights(config)
    step = make_train_step(config, lora, SGD)
    jaxpr = step.trace(state, frozen, batches(True)[0].arrays()).jaxpr
    return [
        equation.outvars[0].aval.shape  # type: ignore[union-attr]
        for equation in equations(jaxpr.jaxpr)
        if equation.primitive.name == "dot_general"
    ]


def equations(jaxpr: Any) -> Iterable[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from equations(inner)


def test_the_backward_pass_ends_at_the_lowest_adapted_layer() -> None:
    counts = [len(dots(Lora(2, targets=(f"layers.{n}.*",)))) for n in range(6)]
    fewer = [above - below for above, below in zip(counts, counts[1:], strict=False)]
    # Each layer that needs no gradients saves 7 of its linear layers and 4 of its attention.
    assert fewer == [11] * 4 + fewer[4:]
    assert fewer[4] > 0


def test_no_frozen_matrix_gets_a_gradient() -> None:
    """Nothing of a matrix' shape is computed but in full tuning."""
    matrices = {spec.shape for spec in specs(GEMMA1).values() if len(spec.shape) == 2}
    # The states at the 16 targets happen to be as large as a key matrix.
    assert matrices & set(dots(Lora(2))) <= {(16, 24)}
    assert matrices <= set(dots(None))


@pytest.mark.skipif(native.reason_against() is not None, reason=str(native.reason_against()))
def test_nor_does_one_of_the_native_products() -> None:
    """Their backward pass names it; of the compiled program it is no part."""
    matrices = {spec.shape for spec in specs(GEMMA1).values() if len(spec.shape) == 2}
    found = {}
    base = weights(GEMMA1, "bfloat16")
    for lora in (Lora(2), None):
        trained = base if lora is None else init_adapter(GEMMA1, lora, seed=0)
        state = jax.eval_shape(lambda tree: init_state(tree, SGD, seed=0), trained)
        frozen = {} if lora is None else base
        step = make_train_step(GEMMA1, lora, SGD)
        text = step.lower(state, frozen, batches(True)[0].arrays()).compile().as_text()
        calls = re.findall(r"= b?f\d\d\[(\d+),(\d+)\]\S* custom-call\(.*\"gemkit_dot\"", text)
        found[lora is None] = {tuple(map(int, shape)) for shape in calls}
    assert found[False] and not matrices & found[False] - {(16, 24)}
    assert found[True] & matrices


@pytest.mark.parametrize("lora", [LORA, None], ids=["adapter", "all"])
def test_accumulated_batches_are_one_batch(lora: Lora | None) -> None:
    """With unequal numbers of targets; the sums are divided once."""
    config, accumulate = GEMMA2, 3
    made = list(epoch_batches(examples(), row_length=24, rows=1, seed=0, epoch=0))[:accumulate]
    assert len({float(batch.target_weights.sum()) for batch in made}) > 1
    stacked = {name: np.stack([b.arrays()[name] for b in made]) for name in made[0].arrays()}
    joined = {name: np.concatenate(list(arrays)) for name, arrays in stacked.items()}
    joined["target_index"] = np.concatenate(
        [row * 24 + index for row, index in enumerate(stacked["target_index"])]
    )
    found = []
    for count, batch in ((accumulate, stacked), (1, joined)):
        tree = random_adapter(config) if lora else jax.tree.map(jnp.copy, weights(config))
        state = init_state(tree, SGD, seed=0)
        step = make_train_step(config, lora, SGD, accumulate=count)
        found.append(step(state, weights(config) if lora else {}, batch))
    (many, sums), (one, expected) = found
    assert float(sums.sums.loss) == pytest.approx(float(expected.sums.loss), rel=1e-5)
    assert float(sums.divisor) == float(expected.divisor) == float(expected.sums.weight)
    assert float(sums.gradient_norm) == pytest.approx(float(expected.gradient_norm), rel=1e-4)
    for path, leaf in flatten(many.trained):
        assert_close(leaf, dict(flatten(one.trained))[path], 1e-5)


def test_the_average_follows_the_weights() -> None:
    decay, batch = 0.3, batches(True)[0].arrays()
    state = init_state(random_adapter(GEMMA1), RULE, seed=0, average=True)
    step = make_train_step(GEMMA1, LORA, RULE, ema=decay)
    expected = jax.tree.map(np.array, state.trained)
    for number in range(1, 5):
        state, _ = step(state, weights(GEMMA1), batch)
        kept = min(decay, (1 + number) / (10 + number))
        expected = jax.tree.map(
            lambda old, new, kept=kept: old * np.float32(kept) + new * np.float32(1 - kept),
            expected, jax.tree.map(np.array, state.trained),
        )  # fmt: skip
    for path, leaf in flatten(result_tree(state)):
        assert_close(leaf, dict(flatten(expected))[path], 1e-5)
    plain = TrainState(state.trained, None, state.step, state.key)
    assert result_tree(plain) is state.trained


def test_a_step_compiles_once_for_all_batches_of_a_run() -> None:
    lora = dataclasses.replace(LORA, alpha=5.0)  # no other test's, whose step is kept
    step, valid = make_train_step(GEMMA1, lora, SGD), make_valid_step(GEMMA1, lora)
    state = init_state(init_adapter(GEMMA1, lora, seed=0), SGD, seed=0)
    for epoch in range(2):
        run = epoch_batches(examples(), 24, rows=2, seed=0, epoch=epoch, target_slots=32)
        assert len(run) >= 2
        for batch in run:
            valid(state.trained, weights(GEMMA1), batch.arrays())
            state, _ = step(state, weights(GEMMA1), batch.arrays())
    assert (step._cache_size(), valid._cache_size()) == (1, 1)
    other = pad_batches(examples(), rows=3, seed=0, epoch=0)[0]
    valid(state.trained, weights(GEMMA1), other.arrays())
    assert valid._cache_size() == 2


def test_dropout_is_of_the_seed_and_the_step_and_not_in_validation() -> None:
    lora = Lora(rank=2, dropout=0.5, targets=("v", "up"))
    still = optax.set_to_zero()
    step = make_train_step(GEMMA1, lora, still)
    batch = batches(True)[0].arrays()

    def losses(seed: int) -> list[float]:
        state: TrainState = init_state(random_adapter(GEMMA1, lora), still, seed)
        found = []
        for _ in range(2):
            state, result = step(state, weights(GEMMA1), batch)
            found.append(float(result.sums.loss))
        return found

    first, again, other = losses(1), losses(1), losses(2)
    assert first == again
    assert len({*first, *other}) == 4
    trained = random_adapter(GEMMA1, lora)
    dropping, plain = (
        make_valid_step(GEMMA1, settings)(trained, weights(GEMMA1), batch)
        for settings in (lora, Lora(rank=2, targets=("v", "up")))
    )
    assert float(dropping.loss) == float(plain.loss)
    assert min(abs(loss - float(plain.loss)) for loss in first + other) > 1e-3
