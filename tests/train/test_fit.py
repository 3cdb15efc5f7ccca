"""The loop as a whole: what is validated and kept, any optimizer, going on with more epochs."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest
from tiny import GEMMA1, ids, weights

from gemkit.adapt.lora import Lora, attach, count_adapter, init_adapter, merge, plain
from gemkit.errors import UsageError
from gemkit.model.weights import flatten
from gemkit.train.checkpoints import Checkpoints
from gemkit.train.loop import FitResult, FitSettings, fit, make_loss_measure
from gemkit.train.optimizer import OptimizerSettings
from gemkit.train.packing import Example

LORA = Lora(2, targets=("q", "down"))
EXAMPLES = [Example(ids(n, n), [False] * 3 + [True] * (n - 3)) for n in range(6, 22)]
SETTINGS = FitSettings(epochs=2, batch_tokens=64, valid_every=2)
RULE = OptimizerSettings("sgd", 0.05, "constant", 0)


def run(settings: FitSettings = SETTINGS, optimizer: Any = RULE, lora: Lora = LORA, **more: Any
        ) -> FitResult:  # fmt: skip
    adapter = init_adapter(GEMMA1, lora, 0)
    base = weights(GEMMA1)
    return fit(base, GEMMA1, lora, adapter, EXAMPLES, settings, optimizer, **more)


def losses(result: FitResult) -> list[float]:
    return [row["loss"] for row in result.history if "loss" in row]


def same(first: Any, second: Any) -> bool:
    return all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    )


def test_the_average_is_what_is_validated_and_kept() -> None:
    seen: list[Any] = []

    def measure(tree: Any) -> dict[str, float]:
        seen.append(jax.tree.map(np.array, tree))
        return {"valid_loss": 1.0 / len(seen)}

    averaged = run(dataclasses.replace(SETTINGS, ema=0.9), measure=measure)
    plainly = run()
    assert losses(averaged) == losses(plainly)
    assert same(averaged.trained, seen[-1]) and not same(averaged.trained, plainly.trained)
    start = init_adapter(GEMMA1, LORA, 0)
    for path, leaf in flatten(averaged.trained):
        end, first = dict(flatten(plainly.trained))[path], np.asarray(dict(flatten(start))[path])
        assert 0 < np.abs(leaf - first).sum() < 1.5 * np.abs(end - first).sum()


def test_any_optax_transformation_trains() -> None:
    chain = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.05))
    ours, theirs = run(), run(optimizer=chain)
    assert losses(ours) == pytest.approx(losses(theirs), rel=1e-6)
    assert "learning_rate" in ours.history[0] and "learning_rate" not in theirs.history[0]


def test_history_counts_what_a_step_reads() -> None:
    steps = [row for row in run().history if "loss" in row]
    first = [row for row in steps if row["epoch"] <= 1]
    assert sum(row["rows"] for row in first) == len(EXAMPLES)
    assert sum(row["tokens"] for row in first) == sum(len(e.ids) for e in EXAMPLES)
    assert sum(row["targets"] for row in first) == sum(sum(e.target) for e in EXAMPLES)
    assert all(row["slots"] >= row["tokens"] for row in first)


def test_a_finished_run_goes_on_for_more_epochs(tmp_path: Path) -> None:
    def kept(epochs: float, resume: bool) -> FitResult:
        keeper = Checkpoints(tmp_path, {}, every=3, resume=resume, tell=lambda line: None)
        return run(dataclasses.replace(SETTINGS, epochs=epochs), keeper=keeper)

    longer = run(dataclasses.replace(SETTINGS, epochs=4))
    kept(2, resume=False)
    going_on = kept(4, resume=True)
    assert losses(going_on) == losses(longer) and same(going_on.trained, longer.trained)
    assert losses(kept(4, resume=True)) == losses(longer)


def test_patience_that_is_spent_stays_spent(tmp_path: Path) -> None:
    worse = iter(range(1, 100))

    def measure(tree: Any) -> dict[str, float]:
        return {"valid_loss": float(next(worse))}

    def patient() -> FitResult:
        keeper = Checkpoints(tmp_path, {}, every=1, resume=True, tell=lambda line: None)
        return run(dataclasses.replace(SETTINGS, patience=2), measure=measure, keeper=keeper)

    first = patient()
    again = patient()
    assert first.stopped == again.stopped == "no improvement"
    assert (first.best_step, first.history) == (again.best_step, again.history)
    assert same(first.trained, again.trained)


def test_without_a_metric_the_last_weights_are_kept() -> None:
    seen: list[Any] = []

    def measure(tree: Any) -> dict[str, float]:
        seen.append(jax.tree.map(np.array, tree))
        return {} if len(seen) == 1 else {"valid_loss": float(len(seen))}

    result = run(dataclasses.replace(SETTINGS, metric=None), measure=measure)
    steps = len(losses(result))
    assert same(result.trained, seen[-1]) and result.best_step == steps and result.stopped == ""
    rows = [row for row in result.history if "loss" not in row]
    assert "valid_loss" not in rows[0] and rows[-1]["valid_loss"] == len(seen)
    with pytest.raises(UsageError, match="patience is 2 without a metric"):
        dataclasses.replace(SETTINGS, metric=None, patience=2)


@pytest.mark.parametrize("during", ["a step", "a validation"])
def test_interrupted_between_steps_and_while_validating(during: str) -> None:
    """The run ends there; after a step it is validated first."""
    asked: list[str] = []
    validated: list[int] = []

    def measure(tree: Any) -> dict[str, float]:
        validated.append(1)
        if during == "a validation":
            asked.append("now")
        return {"valid_loss": 1.0}

    def tell(row: Any, steps: int) -> None:
        if during == "a step" and row["step"] == 1:
            asked.append("now")

    result = run(measure=measure, tell=tell, interrupted=lambda: bool(asked))
    assert result.stopped == "interrupted" and len(validated) == 1
    assert len(losses(result)) == (1 if during == "a step" else SETTINGS.valid_every)


def test_keras_form_trains_and_becomes_a_usual_adapter() -> None:
    """Heads share B: the update of each head is its own A times that B."""
    lora = Lora(2, targets=("q", "v", "o"), form="keras")
    loss = make_loss_measure(weights(GEMMA1), GEMMA1, lora, EXAMPLES, 64)
    result = run(dataclasses.replace(SETTINGS, epochs=3), lora=lora, measure=loss)
    assert losses(result)[-1] < losses(result)[0]
    trained = result.trained
    pair = trained["layers.1.attn.q"]
    assert (pair["a"].shape, pair["b"].shape) == ((4, 2, 24), (2, 8))
    assert trained["layers.0.attn.o"]["a"].shape == (2, 32)
    assert sum(leaf.size for leaf in jax.tree.leaves(trained)) == count_adapter(GEMMA1, lora)
    base = np.asarray(weights(GEMMA1)["layers"][1]["attn"]["q"])
    changed = np.asarray(merge(attach(weights(GEMMA1), trained, lora))["layers"][1]["attn"]["q"])
    for head in range(4):
        update = (pair["a"][head].T @ pair["b"]).T
        rows = slice(8 * head, 8 * head + 8)
        np.testing.assert_allclose(changed[rows] - base[rows], update, atol=1e-6)
    usual, expanded = plain(lora, trained)
    assert usual.form == "peft" and usual.scale_of("layers.0.attn.q") == 1.0
    assert usual.rank_of("layers.0.attn.q") == 8 and usual.rank_of("layers.0.attn.o") == 2
    again = merge(attach(weights(GEMMA1), expanded, usual))
    assert np.array_equal(again["layers"][1]["attn"]["q"], changed)


@pytest.mark.parametrize("settings, said", [
    ({"accumulate": 0}, "accumulate is 0"), ({"ema": 1.0}, "ema is 1.0"),
    ({"remat": "some"}, "remat is 'some'; expected one of off, layer, full"),
])  # fmt: skip
def test_settings_out_of_range(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        FitSettings(**settings)


def test_forms_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="LoRA form is 'keras' with DoRA"):
        Lora(form="keras", dora=True)
