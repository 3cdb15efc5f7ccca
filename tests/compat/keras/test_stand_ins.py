"""Stand-ins keep settings, give them back and seed what the shims draw from."""

import copy
import importlib
import random

import numpy as np
import pytest

from gemkit.compat import keras
from gemkit.compat.keras.callbacks import EarlyStopping, TerminateOnNaN
from gemkit.errors import UsageError


def test_settings_come_back() -> None:
    optimizer = keras.optimizers.AdamW(1e-4, weight_decay=0.1, clipnorm=2.0)
    again = keras.optimizers.AdamW.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config() == copy.copy(optimizer).get_config()
    assert (again.beta_2, again.clipnorm, again.name) == (0.999, 2.0, "adam_w")
    with pytest.raises(AttributeError, match="AdamW has no gamma"):
        _ = again.gamma
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert loss.get_config()["from_logits"] is True and loss.name == loss.usual_name


def test_the_seed_and_the_dtype() -> None:
    drawn = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        drawn.append((random.random(), float(np.random.random())))
    assert drawn[0] == drawn[1]
    assert keras.config.floatx() == "float32" and keras.config.backend() == "jax"
    for wrong in ("int8", "mixed_bfloat16"):
        with pytest.raises(UsageError, match="bfloat16"):
            keras.mixed_precision.set_global_policy(wrong)


def test_schedules_go_where_they_say() -> None:
    schedules = keras.optimizers.schedules
    cosine = schedules.CosineDecay(0.0, 10, warmup_target=1.0, warmup_steps=4)
    assert [cosine(step) for step in (0, 2, 4, 9, 14, 99)] == pytest.approx(
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.0], abs=1e-12
    )
    assert schedules.ExponentialDecay(1.0, 2, 0.25)(1) == 0.5
    assert schedules.ExponentialDecay(1.0, 2, 0.25, staircase=True)(1) == 1.0
    assert schedules.InverseTimeDecay(1.0, 2, 1.0)(2) == 0.5
    assert schedules.PolynomialDecay(1.0, 4, 0.0)(3) == 0.25
    assert schedules.PolynomialDecay(1.0, 4, 0.0, cycle=True)(6) == 0.25


class Model:
    """What a callback needs of one."""

    stop_training = False
    weights = 0

    def get_weights(self) -> int:
        return self.weights

    def set_weights(self, weights: int) -> None:
        self.weights = weights


def test_early_stopping_goes_back_to_the_best() -> None:
    model, stopping = Model(), EarlyStopping("val_accuracy", patience=2, restore_best_weights=True)
    stopping.set_model(model)
    stopping.on_train_begin()
    for epoch, value in enumerate([0.1, 0.5, 0.4, 0.5]):
        model.weights = epoch
        assert not model.stop_training
        stopping.on_epoch_end(epoch, {"val_accuracy": value})
    stopping.on_train_end()
    assert model.stop_training and model.weights == stopping.best_epoch == 1


def test_a_loss_that_is_no_number_ends_the_run() -> None:
    model, callback = Model(), TerminateOnNaN()
    callback.set_model(model)
    callback.on_train_batch_end(0, {"loss": 1.0})
    assert not model.stop_training
    callback.on_train_batch_end(1, {"loss": float("nan")})
    assert model.stop_training


@pytest.mark.parametrize("module, name, instead", [
    ("keras", "layers", "jax.numpy"), ("keras.optimizers", "RMSprop", "Adam, AdamW or SGD"),
    ("keras.optimizers.schedules", "Other", "optax"), ("keras.losses", "Hinge", "from_logits=True"),
    ("keras.metrics", "Mean", "gemkit evaluate"), ("keras.callbacks", "CSVLogger", "gemkit.tune"),
    ("keras_nlp", "layers", "KerasNLP itself"), ("keras_nlp.models", "GPT2CausalLM", "Gemma"),
    ("keras_nlp.samplers", "ContrastiveSampler", "generate"), ("keras_hub", "layers", "KerasNLP"),
    ("keras_hub.models", "BertTokenizer", "Gemma"), ("gemma", "gm", "gemkit.tune"),
    ("gemma.params", "nest_params", "load_and_format_params"),
    ("gemma.transformer", "Block", "Transformer.apply"), ("gemma.sampler", "Other", "Sampler"),
])  # fmt: skip
def test_names_without_a_counterpart(module: str, name: str, instead: str) -> None:
    found = importlib.import_module(f"gemkit.compat.{module}")
    assert not hasattr(found, name)
    with pytest.raises(UsageError, match=f"has no {name}; expected .*{instead}"):
        getattr(found, name)
    with pytest.raises(ImportError):
        exec(f"from gemkit.compat.{module} import {name}")
