"""Adapters in PEFT's form: written, read, and refused when they do not fit."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gemkit.adapt.lora import Adapter, Lora, target_paths
from gemkit.checkpoint.peft.config import BASE_HASH
from gemkit.checkpoint.peft.lora import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    read_adapter,
    recognises,
    write_adapter,
)
from gemkit.errors import CheckpointError, GemkitError
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import specs

HASH = "0123456789abcdef"
LORA = Lora(rank=3, alpha=6.0, targets=("q", "layers.1.mlp.*"), dropout=0.25)
KINDS = {
    "plain": LORA,
    "no alpha": Lora(rank=2, targets=("q",), rank_pattern={"layers.1.*": 3}),
    "rslora": Lora(rank=5, alpha=3.0, rslora=True),
    "dora": Lora(rank=2, alpha=1.5, targets=("v", "down"), dora=True),
    "patterns": Lora(
        rank=4, alpha=8.0, dora=True, rslora=True, alpha_pattern={"layers.0.*": 5.5},
        rank_pattern={"q": 2, "layers.1.mlp.*": 7},
    ),
}  # fmt: skip


def make(config: GemmaConfig, lora: Lora = LORA) -> Adapter:
    """Random matrices and magnitudes."""
    draw, adapter = np.random.default_rng(4), {}
    for path in target_paths(config, lora.targets):
        (rows, columns), rank = specs(config)[path].shape, lora.rank_of(path)
        shapes: dict[str, tuple[int, ...]] = {"a": (rank, columns), "b": (rank, rows)}
        if lora.dora:
            shapes |= {"m": (rows,)}
        adapter[path] = {
            part: jnp.asarray(draw.normal(size=shape), jnp.float32)
            for part, shape in shapes.items()
        }
    return adapter


@pytest.fixture
def gemma1(tiny: dict[str, GemmaConfig]) -> GemmaConfig:
    return tiny["gemma1"]


@pytest.fixture
def folder(tmp_path: Path, gemma1: GemmaConfig) -> Path:
    write_adapter(tmp_path, gemma1, LORA, make(gemma1), "base", HASH)
    return tmp_path


def assert_same(ours: Adapter, theirs: Adapter) -> None:
    assert list(ours) == list(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_what_is_written_is_read(config: GemmaConfig, tmp_path: Path) -> None:
    adapter = make(config)
    write_adapter(tmp_path, config, LORA, adapter, "base", HASH)
    lora, again = read_adapter(tmp_path, config, HASH)
    assert lora == Lora(3, 6.0, tuple(adapter), 0.25)
    assert_same(again, adapter)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_back(gemma1: GemmaConfig, tmp_path: Path, kind: str) -> None:
    lora, adapter = KINDS[kind], make(gemma1, KINDS[kind])
    write_adapter(tmp_path, gemma1, lora, adapter, "base", HASH)
    found, again = read_adapter(tmp_path, gemma1, HASH)
    assert_same(again, adapter)
    assert (found.rslora, found.dora) == (lora.rslora, lora.dora)
    for path in adapter:
        for ask in (Lora.rank_of, Lora.alpha_of, Lora.scale_of):
            assert ask(found, path) == ask(lora, path)


def test_names_shapes_and_settings_are_those_of_peft(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    stem = "base_model.model.model.layers.0.self_attn.q_proj"
    assert tensors[f"{stem}.lora_A.weight"].shape == (3, 24)
    assert tensors[f"{stem}.lora_B.weight"].shape == (32, 3)
    described = json.loads((folder / CONFIG_FILE).read_text())
    expected = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 3, "lora_alpha": 6.0,
        "lora_dropout": 0.25, "base_model_name_or_path": "base", BASE_HASH: HASH,
        "use_rslora": False, "use_dora": False, "rank_pattern": {}, "alpha_pattern": {},
    }  # fmt: skip
    assert described.items() >= expected.items()


def test_patterns_are_written_in_names_of_modules(tmp_path: Path, gemma1: GemmaConfig) -> None:
    lora = Lora(
        rank=4, targets=("q", "k", "down"), dora=True, alpha=8,
        rank_pattern={"q": 2}, alpha_pattern={"layers.1.mlp.down": 2.5},
    )  # fmt: skip
    write_adapter(tmp_path, gemma1, lora, make(gemma1, lora), "base", HASH)
    described = json.loads((tmp_path / CONFIG_FILE).read_text())
    assert described["target_modules"] == ["down_proj", "k_proj", "q_proj"]
    assert described["rank_pattern"] == {"q_proj": 2}
    assert described["alpha_pattern"] == {"model.layers.1.mlp.down_proj": 2.5}
    assert described["use_dora"] is True
    magnitudes = {name for name in load_file(tmp_path / WEIGHTS_FILE) if "magnitude" in name}
    assert len(magnitudes) == 6 and all(n.endswith("lora_magnitude_vector") for n in magnitudes)


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


def respelled(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        renamed = {name.replace(old, new): tensor for name, tensor in tensors.items()}
        tensors.clear()
        tensors.update(renamed)

    return change


@pytest.mark.parametrize("prefix", [
    "base_model.model.base_model.model.model.",  # PEFT around PEFT
    "base_model.model.model.language_model.",  # Gemma 3 with vision, transformers ≥ 4.52
    "base_model.model.language_model.model.",  # before
    "base_model.model.", "model.", "",
])  # fmt: skip
def test_prefixes(folder: Path, gemma1: GemmaConfig, prefix: str) -> None:
    change_tensors(folder, respelled("base_model.model.model.", prefix))
    inner = prefix.replace("base_model.model.", "")
    change_config(folder, lambda d: d.update(
        target_modules=[t.replace("model.layers", f"{inner}layers") for t in d["target_modules"]]
    ))  # fmt: skip
    assert_same(read_adapter(folder, gemma1, HASH)[1], make(gemma1))


def test_an_adapter_with_a_name(folder: Path, gemma1: GemmaConfig, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    (outer / "first").mkdir(parents=True)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        (folder / name).rename(outer / "first" / name)
    assert_same(read_adapter(outer, gemma1, HASH)[1], make(gemma1))
    (outer / "second").mkdir()
    (outer / "second" / CONFIG_FILE).write_text("{}")
    with pytest.raises(CheckpointError, match="but adapters in first, second; .*name one of them"):
        read_adapter(outer, gemma1, HASH)
    assert recognises(outer) and recognises(outer / "first" / WEIGHTS_FILE)
    assert not recognises(folder / "nothing") and not recognises(outer / "first" / "more")


@pytest.mark.parametrize(("settings", "scale"), [
    ({"alpha_pattern": {"q_proj": 9}}, 3.0),
    ({"alpha_pattern": {"proj": 9}}, 2.0),  # names end so from a dot on
    ({"alpha_pattern": {r".*\.[qv]_proj": 9, "q_proj": 3}}, 3.0),
    ({"alpha_pattern": {"^model.layers.0.self_attn.q_proj": 9}}, 3.0),
    ({"alpha_pattern": {"layers.[1-9].self_attn.q_proj": 9}}, 2.0),
    ({"alpha_pattern": {"layers.0.self_attn.q": 9}}, 2.0),
    ({"use_rslora": True}, 6 / math.sqrt(3)),
    ({"lora_alpha": 0.5}, 0.5 / 3),
    ({"rank_pattern": {"q_proj": 3}, "r": 6, "alpha_pattern": None}, 2.0),
    ({"fan_in_fan_out": True, "loftq_config": {}, "peft_version": "0.99"}, 2.0),
])  # fmt: skip
def test_patterns_match_as_in_peft(
    tmp_path: Path, gemma1: GemmaConfig, settings: dict[str, Any], scale: float
) -> None:
    lora = Lora(rank=3, alpha=6.0, targets=("q",))
    write_adapter(tmp_path, gemma1, lora, make(gemma1, lora), "base", HASH)
    change_config(tmp_path, lambda described: described.update(settings))
    found, _ = read_adapter(tmp_path, gemma1, HASH)
    assert found.scale_of("layers.0.attn.q") == pytest.approx(scale)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"peft_type": "LOHA"}, 'peft_type is "LOHA"; expected "LORA"; merge it with PEFT'),
        ({"peft_type": None}, 'peft_type is null; expected "LORA"'),
        ({"bias": "all"}, 'bias is "all"; expected "none"'),
        ({"modules_to_save": ["lm_head"]}, 'modules_to_save is ["lm_head"]; expected []; merge'),
        ({"init_lora_weights": "pissa_niter_4"}, 'init_lora_weights is "pissa_niter_4"'),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens is [1, 2]"),
        ({"use_rslora": 1}, "use_rslora is 1; expected true or false"),
        ({"rank_pattern": {"q_proj": 8}}, "lora_A [3, 24] and lora_B [32, 3]; expected [8, 24]"),
        ({"rank_pattern": {"q_proj": "8"}}, "expected a positive whole number for model.layers.0"),
        ({"rank_pattern": ["q_proj"]}, "expected an object of at most"),
        ({"rank_pattern": {"(q_proj": 8}}, "a regular expression of RE2"),
        ({"alpha_pattern": {"(?=q)q_proj": 8}}, "a regular expression of RE2"),
        ({"alpha_pattern": {"q_proj": 0}}, "expected a number above 0 for model.layers.0"),
        ({"use_dora": True}, "lora_magnitude_vector None; expected"),
        ({"r": 0}, "r is 0; expected a whole number from 1"),
        ({"r": "four"}, 'r is "four"'),
        ({"r": True}, "r is true"),
        ({"lora_alpha": "much"}, 'lora_alpha is "much"; expected a number above 0'),
        ({"lora_dropout": 1}, "lora_dropout is 1; expected a share"),
        ({"target_modules": 5}, "target_modules is 5; expected a list of names or a regular"),
        ({"target_modules": ["q_proj"]},
         "adapts layers.1.mlp.down_proj and 2 more modules, which adapter_config.json does not"),
        ({"target_modules": "all-linear"}, "has no matrices for layers.0.mlp.down_proj and 8 more"),
        ({BASE_HASH: 7}, "gemkit_base_sha256 is 7; expected a hash"),
    ],
)
def test_settings_gemkit_cannot_apply(
    folder: Path, gemma1: GemmaConfig, settings: dict[str, Any], said: str
) -> None:
    change_config(folder, lambda described: described.update(settings))
    with pytest.raises(GemkitError) as caught:
        read_adapter(folder, gemma1, HASH)
    assert said in str(caught.value) and "\n" not in str(caught.value)


STEM = "base_model.model.model.layers.0.self_attn.q_proj"
ONE = np.ones(1, np.float32)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop(f"{STEM}.lora_A.weight"), "has lora_A None and lora_B [32, 3]"),
        (lambda t: t.update({f"{STEM}.lora_B.weight": np.ones((3, 32), np.float32)}),
         "lora_B [3, 32]; expected [3, 24] and [32, 3]"),
        (lambda t: t.update({f"{STEM}.lora_magnitude_vector": np.ones(32, np.float32)}),
         "lora_magnitude_vector [32]; expected [3, 24] and [32, 3] and None"),
        (lambda t: t.update({"other": ONE}), "1 tensors this model has no place for, such as"),
        (lambda t: t.update({STEM.replace(".0.", ".2.") + ".lora_A.weight": ONE}),
         "1 tensors this model has no place for"),
        (lambda t: t.update({STEM.replace("q_", "x_") + ".lora_A.weight": ONE}), "no place for"),
        (lambda t: t.update({"base_model.model.model.embed_tokens.lora_embedding_A": ONE}),
         "(it adapts the embedding); expected an adapter of this model's layers"),
        (lambda t: t.update({"base_model.model.lm_head.weight": ONE}), "(it adapts the output"),
        (lambda t: t.update({"base_model.model.layers.0.self_attn.k_proj.lora_A.weight": ONE}),
         "no place for"),
        (lambda t: t.update({f"base_model.model.{STEM}.lora_A.weight": ONE}), "twice"),
        (lambda t: t.update({f"{STEM}.lora_A.weight": np.ones((3, 24), np.int32)}), "has dtype"),
        (dict.clear, "holds no tensors"),
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
    with pytest.raises(CheckpointError, match="adapter_model.safetensors .* is damaged"):
        read_adapter(folder, gemma1, HASH)
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(CheckpointError, match="has no adapter_model.safetensors"):
        read_adapter(folder, gemma1, HASH)
    (folder / "adapter_model.bin").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="is a pickle, which could run any code; expected"):
        read_adapter(folder, gemma1, HASH)
    (folder / CONFIG_FILE).write_text("{")
    with pytest.raises(CheckpointError, match="adapter_config.json is not JSON"):
        read_adapter(folder, gemma1, HASH)
    (folder / CONFIG_FILE).unlink()
    with pytest.raises(CheckpointError, match="has no adapter_config.json; expected the folder"):
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
