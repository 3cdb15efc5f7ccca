"""Keras presets, written here by the names table and h5py alone."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gemkit.checkpoint.keras import weights as keras
from gemkit.checkpoint.load import load_checkpoint
from gemkit.errors import CheckpointError, ConfigError
from gemkit.model import variants
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params, flatten
from gemkit.text.tokenizer import Tokenizer

Make = Callable[..., Params]
Write = Callable[..., dict[str, np.ndarray]]
Same = Callable[[Params, Params], bool]
Describe = Callable[[GemmaConfig], dict[str, Any]]

# As KerasNLP 0.8 wrote it.
OLDEST = {
    "module": "keras_nlp.src.models.gemma.gemma_backbone", "class_name": "GemmaBackbone",
    "config": {
        "name": "gemma_backbone", "trainable": True, "vocabulary_size": 256000,
        "num_layers": 28, "num_query_heads": 16, "num_key_value_heads": 16, "hidden_dim": 3072,
        "intermediate_dim": 49152, "head_dim": 256, "layer_norm_epsilon": 1e-06, "dropout": 0,
    },
    "registered_name": "keras_nlp>GemmaBackbone", "assets": [], "weights": "model.weights.h5",
}  # fmt: skip


def with_settings(described: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return described | {"config": described["config"] | settings}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_presets_load(
    tmp_path: Path, config: GemmaConfig, weights: Make, write_preset: Write, same: Same, dtype: str
) -> None:
    params = weights(config, dtype)
    write_preset(tmp_path / "p", config, params)
    loaded = load_checkpoint(tmp_path / "p")
    assert same(loaded.params, params)
    assert loaded.config == config
    assert str(loaded.report).startswith("Keras preset: ")
    assert loaded.report.converted == 7 * config.num_layers


@pytest.mark.parametrize(
    "prefix",
    [
        "_layer_checkpoint_dependencies/",
        "layers/gemma_backbone/layers/",
        "_layer_checkpoint_dependencies/gemma_backbone/_layer_checkpoint_dependencies/",
    ],
)
def test_other_prefixes(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, write_preset: Write, same: Same,
    prefix: str,
) -> None:  # fmt: skip
    params = weights(tiny["gemma2"])
    write_preset(tmp_path / "p", tiny["gemma2"], params, prefix)
    assert same(load_checkpoint(tmp_path / "p").params, params)
    assert same(load_checkpoint(tmp_path / "p" / "model.weights.h5").params, params)


def split(folder: Path, written: dict[str, np.ndarray]) -> dict[str, Any]:
    """Turn model.weights.h5 into three shards as KerasHub ≥ 0.21 writes them; the index."""
    (folder / "model.weights.h5").unlink()
    weight_map: dict[str, Any] = {}
    for number in range(3):
        name = f"model_{number:05}.weights.h5"
        with h5py.File(folder / name, "w") as file:
            for dataset, values in list(written.items())[number::3]:
                file[dataset] = values
                weight_map["/" + dataset.removesuffix("/0")] = name if number else [name]
    index = {"metadata": {"total_size": 1.0}, "weight_map": weight_map}
    (folder / "model.weights.json").write_text(json.dumps(index))
    return index


def test_shards(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, write_preset: Write, same: Same
) -> None:
    config, folder = tiny["gemma3"], tmp_path / "p"
    index = split(folder, write_preset(folder, config, weights(config)))
    assert same(load_checkpoint(folder).params, weights(config))
    (folder / "model_00001.weights.h5").unlink()
    with pytest.raises(CheckpointError, match=r"lacks the shard model_00001\.weights\.h5"):
        load_checkpoint(folder)
    index["weight_map"] = {"/x/vars": ["../outside.h5"]}
    (folder / "model.weights.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"names the shard '\.\./outside\.h5'"):
        load_checkpoint(folder)


def test_vision_is_left_out(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, write_preset: Write
) -> None:
    config, folder = tiny["gemma3"], tmp_path / "p"
    write_preset(folder, config, weights(config))
    name = "layers/gemma3_vision_encoder/image_encoder/vars/0"
    with h5py.File(folder / "model.weights.h5", "a") as file:
        file[name] = np.zeros(3)
    assert load_checkpoint(folder).report.unused == (name,)


def test_the_tokenizer_lies_in_assets(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, write_preset: Write,
    tokenizer: Tokenizer,
) -> None:  # fmt: skip
    write_preset(tmp_path / "p", tiny["gemma1"], weights(tiny["gemma1"]))
    file = tmp_path / "p" / "assets" / "tokenizer" / "vocabulary.spm"
    file.parent.mkdir(parents=True)
    file.write_bytes(tokenizer.proto)
    read = load_checkpoint(tmp_path / "p").tokenizer
    assert read is not None and read.proto == tokenizer.proto


def test_the_oldest_schema() -> None:
    assert keras.read_config(OLDEST) == variants.GEMMA_7B


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_variants(keras_config: Describe, name: str) -> None:
    published = variants.VARIANTS[name].config
    assert keras.read_config(keras_config(published)) == published


@pytest.mark.parametrize("published", [variants.GEMMA3_1B, variants.GEMMA3_4B])
def test_presets_of_kerashub_0_20_have_no_scaling_factor(
    keras_config: Describe, published: GemmaConfig
) -> None:
    described = keras_config(published)
    del described["config"]["global_rope_scaling_factor"]
    assert keras.read_config(described).rope_scale == published.rope_scale


def test_the_27b_query_scale_is_the_trained_one(keras_config: Describe) -> None:
    described = keras_config(dataclasses.replace(variants.GEMMA2_27B))
    assert described["config"]["query_head_dim_normalize"] is False
    assert keras.read_config(described).query_scale == 144**-0.5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"intermediate_dim": 81}, "intermediate_dim is 81"),
        ({"hidden_dim": "x"}, 'hidden_dim is "x"'),
        ({"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon is 1e-05"),
        ({"use_post_attention_norm": False}, "use_post_attention_norm is false"),
        ({"dtype": {"class_name": "QuantizedDTypePolicy"}}, "dtype is"),
        ({"use_novel_trick": True}, "use_novel_trick is true"),
        ({"num_key_value_heads": 3}, "num_heads 4 is no multiple"),
        ({"attention_logit_soft_cap": -1}, "attention_logit_soft_cap is -1"),
    ],
)
def test_settings_gemkit_cannot_honour(
    tiny: dict[str, GemmaConfig], keras_config: Describe, settings: dict[str, Any], said: str
) -> None:
    described = with_settings(keras_config(tiny["gemma2"]), **settings)
    with pytest.raises(ConfigError) as caught:
        keras.read_config(described, "p/config.json")
    assert said in str(caught.value) and str(caught.value).startswith("p/config.json: ")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"is_embedding_model": True}, "is_embedding_model is true"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention is true"),
        ({"local_rope_scaling_factor": 2.0}, "local_rope_scaling_factor is 2.0"),
    ],
)
def test_gemma_3_settings_gemkit_cannot_honour(
    tiny: dict[str, GemmaConfig], keras_config: Describe, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        keras.read_config(with_settings(keras_config(tiny["gemma3"]), **settings))


def test_other_backbones_are_refused() -> None:
    described = OLDEST | {"registered_name": "keras_hub>PaliGemmaBackbone"}
    with pytest.raises(ConfigError, match="registered_name is 'PaliGemmaBackbone'"):
        keras.read_config(described)


def test_missing_unknown_and_misshapen_tensors(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, write_preset: Write
) -> None:
    config, folder = tiny["gemma3"], tmp_path / "p"
    write_preset(folder, config, weights(config))
    with h5py.File(folder / "model.weights.h5", "a") as file:
        block = file["layers/gemma3_decoder_block_2"]
        block.move("pre_ffw_norm", "pre_ffn_norm")
        del block["attention/query_dense/vars/0"]
        block["attention/query_dense/vars/0"] = np.zeros((4, 8, 24), np.float32)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    message = str(caught.value)
    assert "3 tensors do not fit" in message
    assert "missing layers/gemma3_decoder_block_2/pre_ffw_norm/vars/0" in message
    assert "unknown layers/gemma3_decoder_block_2/pre_ffn_norm/vars/0 [24]" in message
    assert "query_dense/vars/0 has shape [4, 8, 24], expected [4, 24, 8]" in message


def test_data_in_other_files_is_refused(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, write_preset: Write
) -> None:
    config, folder = tiny["gemma1"], tmp_path / "p"
    write_preset(folder, config, weights(config))
    secret = tmp_path / "secret"
    secret.write_bytes(b"\0" * 96)
    with h5py.File(folder / "model.weights.h5", "a") as file:
        del file["layers/rms_normalization/vars/0"]
        file.create_dataset(
            "layers/rms_normalization/vars/0", (24,), "f4", external=[(str(secret), 0, 96)]
        )
    with pytest.raises(CheckpointError, match="keeps its data in another file"):
        load_checkpoint(folder)


def test_leaves_are_those_of_the_weights_table(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, write_preset: Write
) -> None:
    """The element a name and an index stand for, against the array that was written."""
    config = tiny["gemma2"]
    written = write_preset(tmp_path / "p", config, weights(config))
    leaves = dict(flatten(load_checkpoint(tmp_path / "p").params))
    query = written["layers/gemma_decoder_block_1/attention/query_dense/vars/0"]
    assert leaves["layers.1.attn.q"][2 * 8 + 5, 11] == query[2, 11, 5]
    gate = written["layers/gemma_decoder_block/gating_ffw/vars/0"]
    assert leaves["layers.0.mlp.gate"][39, 1] == gate[1, 39]
