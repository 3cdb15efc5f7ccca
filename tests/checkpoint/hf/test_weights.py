"""Hugging Face folders: names on disk, shards, prefixes, padding, the output head."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gemkit.checkpoint.hf import weights as huggingface
from gemkit.checkpoint.load import load_checkpoint
from gemkit.checkpoint.save import save_checkpoint
from gemkit.errors import CheckpointError
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params, flatten
from gemkit.text.tokenizer import Tokenizer

Make = Callable[..., Params]
Same = Callable[[Params, Params], bool]


@pytest.fixture
def saved(tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make) -> Path:
    """A Gemma 2 folder in one file."""
    save_checkpoint(tmp_path / "m", tiny["gemma2"], weights(tiny["gemma2"]), None)
    return tmp_path / "m"


def rewrite(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Replace the tensors of a single-file folder; returns what was there."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    save_file(change(dict(tensors)), file, metadata={"format": "pt"})
    return tensors


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("shard_bytes", [10**9, 6000])
def test_weights_survive_writing_and_reading(
    tmp_path: Path, config: GemmaConfig, weights: Make, same: Same, tokenizer: Tokenizer,
    dtype: str, shard_bytes: int, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    params = weights(config, dtype)
    monkeypatch.setattr(huggingface, "SHARD_BYTES", shard_bytes)
    save_checkpoint(tmp_path / "m", config, params, tokenizer)
    loaded = load_checkpoint(tmp_path / "m")
    assert same(loaded.params, params)
    assert loaded.config.layer_kinds == config.layer_kinds
    assert loaded.report.loaded == len(list(flatten(params)))
    assert (loaded.report.converted, loaded.report.unused) == (0, ())
    assert loaded.tokenizer.proto == tokenizer.proto


def test_shards_and_index(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    params = weights(tiny["gemma3"])
    folder = tmp_path / "m"
    monkeypatch.setattr(huggingface, "SHARD_BYTES", 50_000)
    save_checkpoint(folder, tiny["gemma3"], params, None)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shards = sorted(file.name for file in folder.glob("*.safetensors"))
    assert len(shards) > 2 and sorted(set(index["weight_map"].values())) == shards
    assert shards[0] == f"model-00001-of-{len(shards):05}.safetensors"
    assert index["metadata"]["total_size"] == sum(leaf.nbytes for _, leaf in flatten(params))
    for shard in shards:
        tensors = load_file(folder / shard)
        assert {n for n, f in index["weight_map"].items() if f == shard} == tensors.keys()
        assert sum(t.nbytes for t in tensors.values()) <= 50_000


def test_names_on_disk(tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make) -> None:
    params = weights(tiny["gemma1"])
    save_checkpoint(tmp_path / "m", tiny["gemma1"], params, None)
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    layer = params["layers"][1]
    for name, leaf in (
        ("model.embed_tokens.weight", params["embed"]),
        ("model.layers.1.self_attn.o_proj.weight", layer["attn"]["o"]),
        ("model.layers.1.input_layernorm.weight", layer["pre_attn_norm"]),
        ("model.layers.1.post_attention_layernorm.weight", layer["pre_ffw_norm"]),
        ("model.norm.weight", params["final_norm"]),
    ):
        assert np.array_equal(tensors[name], leaf)
    assert len(tensors) == 2 + 2 * 9


def test_loading_casts(saved: Path, tiny: dict[str, GemmaConfig], weights: Make) -> None:
    loaded = load_checkpoint(saved, dtype=jnp.bfloat16)
    assert {leaf.dtype.name for _, leaf in flatten(loaded.params)} == {"bfloat16"}
    assert loaded.report.converted == loaded.report.loaded
    expected = weights(tiny["gemma2"], "bfloat16")["embed"]
    assert np.array_equal(loaded.params["embed"], expected)


def test_mixed_dtypes_follow_the_embedding(saved: Path) -> None:
    def narrow(tensors: dict[str, Any]) -> dict[str, Any]:
        return {n: t if "norm" in n else t.astype(ml_dtypes.bfloat16) for n, t in tensors.items()}

    rewrite(saved, narrow)
    loaded = load_checkpoint(saved)
    assert {leaf.dtype.name for _, leaf in flatten(loaded.params)} == {"bfloat16"}


@pytest.mark.parametrize(
    "prefix", ["", "language_model.model.", "model.language_model.", "language_model."]
)
def test_prefixes(saved: Path, prefix: str, weights: Make, same: Same,
                  tiny: dict[str, GemmaConfig]) -> None:  # fmt: skip
    rewrite(saved, lambda old: {prefix + n.removeprefix("model."): t for n, t in old.items()})
    assert same(load_checkpoint(saved).params, weights(tiny["gemma2"]))


@pytest.mark.parametrize(
    ("text", "vision"), [("language_model.model.", ""), ("model.language_model.", "model.")]
)
def test_a_vision_tower_is_left_out(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, same: Same, text: str, vision: str
) -> None:
    folder, config = tmp_path / "m", tiny["gemma3"]
    save_checkpoint(folder, config, weights(config), None)
    names = ["vision_tower.a.weight", "vision_tower.b.bias", "multi_modal_projector.c"]
    extra = {vision + name: np.zeros(3, np.int8) for name in names}
    rewrite(folder, lambda old: extra | {text + n[6:]: t for n, t in old.items()})
    inner = json.loads((folder / "config.json").read_text())
    outer = {"model_type": "gemma3", "text_config": inner, "vision_config": {"hidden_size": 3}}
    (folder / "config.json").write_text(json.dumps(outer))
    loaded = load_checkpoint(folder)
    assert same(loaded.params, weights(config))
    assert sorted(loaded.report.unused) == sorted(extra)
    assert "3 unused (multi_modal_projector 1, vision_tower 2)" in str(loaded.report)
    (folder / "config.json").write_text(json.dumps(inner))
    with pytest.raises(CheckpointError, match="3 tensors do not fit: unknown"):
        load_checkpoint(folder)


def test_the_output_head_must_be_the_embedding(saved: Path) -> None:
    def tie(tensors: dict[str, Any]) -> dict[str, Any]:
        return tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].copy()}

    def untie(tensors: dict[str, Any]) -> dict[str, Any]:
        tensors["lm_head.weight"][3, 3] += 1
        return tensors

    rewrite(saved, tie)
    assert load_checkpoint(saved).report.unused == ("lm_head.weight",)
    rewrite(saved, untie)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight differs from model\.embed"):
        load_checkpoint(saved)


def test_old_rotary_buffers_are_left_out(saved: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    rewrite(saved, lambda old: old | {name: np.ones(4, np.float32)})
    assert load_checkpoint(saved).report.unused == (name,)


def test_padding_rows_of_the_embedding_are_cut(saved: Path) -> None:
    def pad(rows: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def change(tensors: dict[str, Any]) -> dict[str, Any]:
            table = tensors["model.embed_tokens.weight"]
            padding = np.ones((rows, table.shape[1]), table.dtype)
            return tensors | {"model.embed_tokens.weight": np.concatenate([table, padding])}

        return change

    old = rewrite(saved, pad(64))
    loaded = load_checkpoint(saved)
    assert np.array_equal(loaded.params["embed"], old["model.embed_tokens.weight"])
    assert loaded.report.notes == ("64 padding rows of the embedding left out",)
    rewrite(saved, pad(65))
    with pytest.raises(CheckpointError, match=r"shape \[449, 24\], expected \[320, 24\]"):
        load_checkpoint(saved)


def test_tensors_may_lie_at_odd_offsets(
    saved: Path, tiny: dict[str, GemmaConfig], weights: Make, same: Same
) -> None:
    """Headers of other writers are not always padded to the width of a number."""
    file = saved / "model.safetensors"
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].rstrip()
    header += b" " * (1 - len(header) % 2)
    file.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    assert same(load_checkpoint(saved).params, weights(tiny["gemma2"]))


def test_weights_outlive_their_file(saved: Path) -> None:
    params = load_checkpoint(saved).params
    before = np.array(params["embed"])
    file = saved / "model.safetensors"
    with file.open("r+b") as handle:
        handle.write(b"\0" * file.stat().st_size)
    assert np.array_equal(params["embed"], before)


def test_one_file_beside_its_config(saved: Path) -> None:
    (saved / "model.safetensors").rename(saved / "weights.safetensors")
    assert load_checkpoint(saved / "weights.safetensors").report.loaded == 35
    assert load_checkpoint(saved).report.loaded == 35


def test_the_other_files(saved: Path, tmp_path: Path, tiny: dict[str, GemmaConfig],
                         weights: Make, tokenizer: Tokenizer) -> None:  # fmt: skip
    assert sorted(file.name for file in saved.iterdir()) == [
        "config.json", "generation_config.json", "model.safetensors",
    ]  # fmt: skip
    save_checkpoint(tmp_path / "t", tiny["gemma1"], weights(tiny["gemma1"]), tokenizer)
    settings = json.loads((tmp_path / "t" / "tokenizer_config.json").read_text())
    assert settings["bos_token"] == "<bos>" and settings["pad_token"] == "<pad>"
    generation = json.loads((tmp_path / "t" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [1, tokenizer.token_to_id("<end_of_turn>")]
