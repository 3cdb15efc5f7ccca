"""Adapters in PEFT's form: written, read, and refused when they do not fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gemkit.adapt.lora import Adapter, Lora, init_adapter
from gemkit.checkpoint.peft import BASE_HASH, CONFIG_FILE, WEIGHTS_FILE, read_adapter, write_adapter
from gemkit.errors import CheckpointError
from gemkit.model.config import GemmaConfig

HASH = "0123456789abcdef"
LORA = Lora(rank=3, alpha=6.0, targets=("q", "layers.1.mlp.*"), dropout=0.25)


def make(config: GemmaConfig, lora: Lora = LORA) -> Adapter:
    """An adapter with a `b` that is not zero."""
    fresh = init_adapter(config, lora, seed=0)
    return {path: {"a": p["a"], "b": p["b"] + 0.5} for path, p in fresh.items()}


@pytest.fixture
def gemma1(tiny: dict[str, GemmaConfig]) -> GemmaConfig:
    return tiny["gemma1"]


@pytest.fixture
def folder(tmp_path: Path, gemma1: GemmaConfig) -> Path:
    write_adapter(tmp_path, gemma1, LORA, make(gemma1), "base", HASH)
    return tmp_path


def test_what_is_written_is_read(config: GemmaConfig, tmp_path: Path) -> None:
    adapter = make(config)
    write_adapter(tmp_path, config, LORA, adapter, "base", HASH)
    lora, again = read_adapter(tmp_path, config, HASH)
    assert lora == Lora(3, 6.0, tuple(adapter), 0.25)
    assert again.keys() == adapter.keys()
    for path, pair in adapter.items():
        np.testing.assert_array_equal(pair["a"], again[path]["a"])
        np.testing.assert_array_equal(pair["b"], again[path]["b"])


def test_names_shapes_and_settings_are_those_of_peft(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    stem = "base_model.model.model.layers.0.self_attn.q_proj"
    assert tensors[f"{stem}.lora_A.weight"].shape == (3, 24)
    assert tensors[f"{stem}.lora_B.weight"].shape == (32, 3)
    described = json.loads((folder / CONFIG_FILE).read_text())
    expected = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 3, "lora_alpha": 6.0,
        "lora_dropout": 0.25, "base_model_name_or_path": "base", BASE_HASH: HASH,
    }  # fmt: skip
    assert described.items() >= expected.items()


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (("q", "v"), ["q_proj", "v_proj"]),
        (("layers.0.attn.q", "layers.1.attn.q"), ["q_proj"]),
        (("layers.1.attn.q",), ["model.layers.1.self_attn.q_proj"]),
    ],
)
def test_targets_are_short_where_peft_adapts_the_same(
    tmp_path: Path, gemma1: GemmaConfig, targets: tuple[str, ...], expected: list[str]
) -> None:
    lora = Lora(rank=2, targets=targets)
    write_adapter(tmp_path, gemma1, lora, make(gemma1, lora), "base", HASH)
    assert json.loads((tmp_path / CONFIG_FILE).read_text())["target_modules"] == expected


def test_another_base_is_refused(folder: Path, gemma1: GemmaConfig) -> None:
    said = "hash 0123456789ab, this model has ffff; .*load base"
    with pytest.raises(CheckpointError, match=said):
        read_adapter(folder, gemma1, "ffff")
    assert read_adapter(folder, gemma1, None)[1]


def test_an_adapter_of_peft_itself_has_no_hash(folder: Path, gemma1: GemmaConfig) -> None:
    change_config(folder, lambda described: described.pop(BASE_HASH))
    assert read_adapter(folder, gemma1, "ffff")[1]


def change_config(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    described = json.loads((folder / CONFIG_FILE).read_text())
    change(described)
    (folder / CONFIG_FILE).write_text(json.dumps(described))


def change_tensors(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    change(tensors)
    save_file(tensors, folder / WEIGHTS_FILE)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"peft_type": "LOHA"}, "has peft_type 'LOHA'; expected 'LORA'"),
        ({"use_dora": True}, "has use_dora True"),
        ({"use_rslora": True}, "has use_rslora True"),
        ({"bias": "all"}, "has bias 'all'"),
        ({"modules_to_save": ["lm_head"]}, "has modules_to_save"),
        ({"rank_pattern": {"q_proj": 8}}, "has rank_pattern"),
        ({"r": 0}, "has r 0; expected a positive integer"),
        ({"r": "four"}, "has r 'four'"),
        ({"r": True}, "has r True"),
        ({"lora_alpha": "much"}, "has lora_alpha 'much'; expected a number"),
        ({"lora_dropout": None}, "has lora_dropout None; expected a number"),
    ],
)
def test_settings_gemkit_cannot_apply(
    folder: Path, gemma1: GemmaConfig, settings: dict[str, Any], said: str
) -> None:
    change_config(folder, lambda described: described.update(settings))
    with pytest.raises(CheckpointError) as caught:
        read_adapter(folder, gemma1, HASH)
    assert said in str(caught.value) and "\n" not in str(caught.value)


STEM = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop(f"{STEM}.lora_A.weight"), "has lora_A None and lora_B [32, 3]"),
        (lambda t: t.update({f"{STEM}.lora_B.weight": np.ones((3, 32), np.float32)}),
         "lora_B [3, 32]; expected [3, 24] and [32, 3]"),
        (lambda t: t.update({"other": np.ones(1, np.float32)}), "1 tensors this model has no"),
        (lambda t: t.clear(), "and no adapter matrix"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit(
    folder: Path, gemma1: GemmaConfig, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    change_tensors(folder, change)
    with pytest.raises(CheckpointError) as caught:
        read_adapter(folder, gemma1, HASH)
    assert said in str(caught.value)


def test_damaged_and_missing_files(folder: Path, gemma1: GemmaConfig) -> None:
    whole = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(whole[:-9])
    with pytest.raises(CheckpointError, match="cannot read .*adapter_model.safetensors"):
        read_adapter(folder, gemma1, HASH)
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(CheckpointError, match="cannot read .*adapter_model.safetensors"):
        read_adapter(folder, gemma1, HASH)
    (folder / CONFIG_FILE).write_text("{")
    with pytest.raises(CheckpointError, match="adapter_config.json is not JSON"):
        read_adapter(folder, gemma1, HASH)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_read_as_float32(
    folder: Path, gemma1: GemmaConfig, dtype: str
) -> None:
    change_tensors(folder, lambda t: t.update({k: v.astype(dtype) for k, v in t.items()}))
    _, adapter = read_adapter(folder, gemma1, HASH)
    assert {leaf.dtype for pair in adapter.values() for leaf in pair.values()} == {jnp.dtype("f4")}


def test_the_file_may_be_read_by_whom_the_folder_may(folder: Path) -> None:
    mode = folder.stat().st_mode & 0o666
    assert (folder / WEIGHTS_FILE).stat().st_mode & 0o777 == mode
