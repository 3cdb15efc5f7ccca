"""Presets and LoRA files, ours in KerasHub and KerasHub's here: the same logits.

Random models, small, and shaped so that every setting changes the logits: rows longer than the
window, caps low enough to bend, N != K, N*H != D, scaled positions, ragged rows.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import h5py
import jax.numpy as jnp
import keras_hub
import numpy as np
import pytest
from toy_vocabulary import small_vocabulary

from gemkit.adapt.lora import Adapter, Lora, attach
from gemkit.checkpoint.keras import lora as keras_lora
from gemkit.checkpoint.keras import write as keras_write
from gemkit.checkpoint.load import load_checkpoint
from gemkit.checkpoint.save import save_checkpoint
from gemkit.model.config import GemmaConfig
from gemkit.model.transformer import hidden, logits, positions_of
from gemkit.model.weights import Params, specs, unflatten
from gemkit.text.tokenizer import Tokenizer

# What other libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("default")

SIZES: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 80, "num_heads": 4, "num_kv_heads": 2,
    "head_dim": 16, "vocab_size": 320, "query_scale": 0.25,
}  # fmt: skip
CONFIGS = {
    "gemma": GemmaConfig(num_layers=3, **SIZES),
    "gemma2": GemmaConfig(
        num_layers=4, **SIZES, attention_pattern=("local", "global"), sliding_window=4,
        attn_logit_softcap=2.0, final_logit_softcap=8.0, post_norms=True,
    ),
    "gemma3": GemmaConfig(
        num_layers=7, **SIZES, attention_pattern=("local",) * 5 + ("global",), sliding_window=4,
        qk_norm=True, post_norms=True, rope_theta=1e6, rope_scale=8.0, max_positions=131_072,
    ),
}  # fmt: skip
TASKS: dict[str, Any] = {
    "gemma": keras_hub.models.GemmaCausalLM, "gemma2": keras_hub.models.GemmaCausalLM,
    "gemma3": keras_hub.models.Gemma3CausalLM,
}  # fmt: skip
ROWS = np.random.default_rng(3).integers(4, 320, (2, 19)).astype(np.int32)
SEGMENTS = np.ones_like(ROWS)
SEGMENTS[1, 11:] = 0


def weights(config: GemmaConfig, dtype: str = "float32") -> Params:
    rng = np.random.default_rng(5)
    drawn = {p: rng.normal(size=spec.shape) * 0.3 for p, spec in specs(config).items()}
    return unflatten({path: jnp.asarray(leaf, dtype) for path, leaf in drawn.items()})


def our_logits(config: GemmaConfig, params: Params) -> np.ndarray:
    """Float32 logits at the tokens that are no padding, [M, V]."""
    segments = jnp.asarray(SEGMENTS)
    states = hidden(params, config, jnp.asarray(ROWS), positions_of(segments), segments)
    return np.asarray(logits(params, config, states), np.float32)[SEGMENTS > 0]


def their_logits(backbone: Any) -> np.ndarray:
    states = backbone({"token_ids": ROWS, "padding_mask": SEGMENTS})
    found = backbone.token_embedding(states, reverse=True)
    return np.asarray(found, np.float32)[SEGMENTS > 0]


def assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 1
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
    assert np.array_equal(ours.argmax(-1), theirs.argmax(-1))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A vocabulary of 320 pieces with Gemma's first ids."""
    return small_vocabulary()


@pytest.mark.parametrize("shard_bytes", [10**9, 70_000])
@pytest.mark.parametrize("name", CONFIGS)
def test_our_preset_in_kerashub(
    tmp_path: Path, name: str, shard_bytes: int, tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(keras_write, "SHARD_BYTES", shard_bytes)
    config, params = CONFIGS[name], weights(CONFIGS[name])
    assert save_checkpoint(tmp_path / "p", config, params, tokenizer, "keras") == ()
    assert (tmp_path / "p" / "model.weights.json").exists() == (shard_bytes == 70_000)
    task = TASKS[name].from_preset(str(tmp_path / "p"), preprocessor=None, dtype="float32")
    assert_close(our_logits(config, params), their_logits(task.backbone))


@pytest.mark.parametrize("shard_bytes", [10**9, 40_000])
@pytest.mark.parametrize("name", CONFIGS)
def test_our_bfloat16_preset_in_kerashub(
    tmp_path: Path, name: str, shard_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras_write, "SHARD_BYTES", shard_bytes)
    config, params = CONFIGS[name], weights(CONFIGS[name], "bfloat16")
    save_checkpoint(tmp_path / "p", config, params, None, "keras")
    assert not (tmp_path / "p" / "task.json").exists()
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path / "p"), dtype="bfloat16")
    theirs = backbone.transformer_layers[1].attention.output_dense.kernel.numpy()
    ours = np.asarray(params["layers"][1]["attn"]["o"], np.float32)
    assert theirs.dtype.name == "bfloat16"
    assert np.array_equal(theirs.astype(np.float32).reshape(-1, 48).T, ours)
    # In float32 KerasHub computes with the same rounded weights.
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path / "p"), dtype="float32")
    rounded = load_checkpoint(tmp_path / "p", "float32")
    assert_close(our_logits(config, rounded.params), their_logits(backbone))


@pytest.mark.parametrize("name", CONFIGS)
def test_what_kerashub_writes_of_our_preset_is_what_we_wrote(
    tmp_path: Path, name: str, tokenizer: Tokenizer
) -> None:
    config = CONFIGS[name]
    save_checkpoint(tmp_path / "ours", config, weights(config), tokenizer, "keras")
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path / "ours"), dtype="float32")
    backbone.save_to_preset(str(tmp_path / "theirs"))
    described = [json.loads((tmp_path / n / "config.json").read_text()) for n in ("ours", "theirs")]
    assert described[0] == described[1]
    ours, theirs = (datasets(tmp_path / n / "model.weights.h5") for n in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def datasets(path: Path) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, node: found.update({name: node[()]})
            if isinstance(node, h5py.Dataset) else None
        )  # fmt: skip
    return found


def test_kerashub_tokenises_with_our_preset(tmp_path: Path, tokenizer: Tokenizer) -> None:
    for name in ("gemma", "gemma3"):
        save_checkpoint(tmp_path / name, CONFIGS[name], weights(CONFIGS[name]), tokenizer, "keras")
        theirs = keras_hub.models.Tokenizer.from_preset(str(tmp_path / name))
        assert list(theirs("the soup was warm")) == tokenizer.encode("the soup was warm")
    # The Gemma 3 preprocessor wants TensorFlow.
    task = keras_hub.models.CausalLM.from_preset(str(tmp_path / "gemma"))
    prompt = task.preprocessor.generate_preprocess("the soup", sequence_length=8)
    ids = tokenizer.encode("the soup", bos=True)
    assert list(prompt["token_ids"][: len(ids)]) == ids


def tuned_backbone(tmp_path: Path, name: str, **lora: Any) -> tuple[Any, Params]:
    """A backbone of KerasHub with a random adapter, and its weights here."""
    config = CONFIGS[name]
    save_checkpoint(tmp_path / "base", config, weights(config), None, "keras")
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path / "base"), dtype="float32")
    backbone.enable_lora(3, **lora)
    rng = np.random.default_rng(6)
    for variable in backbone.trainable_variables:
        if "lora" in variable.path:
            variable.assign(rng.normal(size=variable.shape) * 0.3)
    return backbone, weights(config)


@pytest.mark.parametrize("targets", [None, sorted(keras_lora.LAYER_NAMES.values())])
@pytest.mark.parametrize("name", CONFIGS)
def test_kerashub_lora_to_gemkit(tmp_path: Path, name: str, targets: list[str] | None) -> None:
    backbone, params = tuned_backbone(tmp_path, name, target_layer_names=targets)
    backbone.save_lora_weights(str(tmp_path / "x.lora.h5"))
    lora, adapter = keras_lora.read_adapter(tmp_path / "x.lora.h5", CONFIGS[name])
    assert len(adapter) == (7 if targets else 2) * CONFIGS[name].num_layers
    ours = our_logits(CONFIGS[name], attach(params, adapter, lora))
    assert_close(ours, their_logits(backbone))
    # And back, bit for bit.
    assert keras_lora.write_adapter(tmp_path / "y.lora.h5", CONFIGS[name], lora, adapter) == 0
    theirs, back = datasets(tmp_path / "x.lora.h5"), datasets(tmp_path / "y.lora.h5")
    assert theirs.keys() == back.keys()
    assert all(np.array_equal(theirs[key], back[key]) for key in theirs)


def random_adapter(config: GemmaConfig, targets: tuple[str, ...], rank: int) -> Adapter:
    rng = np.random.default_rng(8)
    return {
        path: {
            "a": jnp.asarray(rng.normal(size=(rank, spec.shape[1])) * 0.3, "float32"),
            "b": jnp.asarray(rng.normal(size=(rank, spec.shape[0])) * 0.3, "float32"),
        }
        for path, spec in specs(config).items()
        if path.rsplit(".", 1)[-1] in targets
    }


@pytest.mark.parametrize("targets", [("q", "v"), ("v",), ("q", "o", "gate", "up", "down")])
@pytest.mark.parametrize("name", CONFIGS)
def test_our_lora_in_kerashub(tmp_path: Path, name: str, targets: tuple[str, ...]) -> None:
    config, lora = CONFIGS[name], Lora(rank=2, alpha=3.0)
    adapter = random_adapter(config, targets, 2)
    file = tmp_path / "x.lora.h5"
    assert keras_lora.write_adapter(file, config, lora, adapter, rank=8) == 0
    save_checkpoint(tmp_path / "base", config, weights(config), None, "keras")
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path / "base"), dtype="float32")
    hint = keras_lora.loading_hint(adapter)
    assert (hint is None) == ("o" not in targets)
    if hint is not None:
        backbone.enable_lora(8, json.loads(hint[hint.index("[") : hint.index("]") + 1]))
    backbone.load_lora_weights(str(file))
    ours = our_logits(config, attach(weights(config), adapter, lora))
    assert_close(ours, their_logits(backbone))


def test_a_query_scale_keras_ignores(tmp_path: Path) -> None:
    """The remark that a preset of Gemma 2 27B gets is true: KerasHub scales by H**-0.5."""
    config = dataclasses.replace(CONFIGS["gemma2"], query_scale=12**-0.5)
    params = weights(config)
    (remark,) = save_checkpoint(tmp_path / "p", config, params, None, "keras")
    assert "KerasHub scales by 0.25 whatever a preset says" in remark
    assert load_checkpoint(tmp_path / "p").config.query_scale == config.query_scale
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path / "p"), dtype="float32")
    theirs = their_logits(backbone)
    assert np.abs(our_logits(config, params) - theirs).max() > 1e-2
    assert_close(our_logits(CONFIGS["gemma2"], params), theirs)
