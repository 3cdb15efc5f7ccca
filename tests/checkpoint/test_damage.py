"""Damaged and hostile files: one clear line each, never another exception."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from gemkit.checkpoint.hf import weights as huggingface
from gemkit.checkpoint.load import load_checkpoint
from gemkit.checkpoint.save import save_checkpoint
from gemkit.errors import CheckpointError, GemkitError, TokenizerError
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params
from gemkit.text.tokenizer import Tokenizer

Make = Callable[..., Params]

F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.fixture
def folder(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, tokenizer: Tokenizer
) -> Path:
    save_checkpoint(tmp_path / "m", tiny["gemma2"], weights(tiny["gemma2"]), tokenizer)
    return tmp_path / "m"


@pytest.fixture
def sharded(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, monkeypatch: pytest.MonkeyPatch,
) -> Path:  # fmt: skip
    config = tiny["gemma2"]
    monkeypatch.setattr(huggingface, "SHARD_BYTES", 40_000)
    save_checkpoint(tmp_path / "s", config, weights(config), None)
    return tmp_path / "s"


@pytest.fixture
def preset(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, write_preset: Callable[..., Any]
) -> Path:
    write_preset(tmp_path / "p", tiny["gemma1"], weights(tiny["gemma1"]))
    return tmp_path / "p"


def message(path: Path, error: type[GemkitError] = CheckpointError) -> str:
    """The one line that loading fails with."""
    with pytest.raises(error) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_header(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"abc",
        (2**63).to_bytes(8, "little"),
        (1000).to_bytes(8, "little") + b"{}",
        with_header(b"not json"),
        with_header(b"[" * 100_000),
        with_header({"a": F32}, b"12"),
        with_header({"a": F32 | {"shape": [3]}}, b"1234"),
        with_header({"a": F32 | {"shape": [2**62, 4]}}, b"1234"),
        with_header({"a": F32 | {"shape": [-1]}}, b"1234"),
        with_header({"a": F32 | {"data_offsets": [4, 0]}}, b"1234"),
        with_header({"a": F32 | {"dtype": "F99"}}, b"1234"),
        with_header({"a": F32, "b": F32}, b"1234"),
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
    ],
    ids=range(14),
)
def test_damaged_safetensors(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    said = message(folder)
    assert f"model.safetensors ({len(content)} bytes) is damaged or no safetensors file" in said


@pytest.mark.parametrize("cut", [1, 1000, 60_000])
def test_truncated_safetensors(folder: Path, cut: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-cut])
    assert "is damaged or no safetensors file" in message(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"[1, 2]", "holds a JSON list"),
        (b'{"model_type": "gemma", "rope_theta": NaN}', "NaN is no JSON number"),
        (b"[" * 200_000, "is not JSON"),
    ],
)
def test_damaged_config(folder: Path, content: bytes, said: str) -> None:
    (folder / "config.json").write_bytes(content)
    assert said in message(folder)


def test_renamed_missing_and_misshapen_tensors(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.mlp.upp_proj.weight"] = tensors.pop("model.layers.1.mlp.up_proj.weight")
    tensors["model.norm.weight"] = tensors["model.norm.weight"][:-1]
    name = "model.layers.0.input_layernorm.weight"
    tensors[name] = tensors[name].astype("int32")
    save_file(tensors, file)
    said = message(folder)
    assert "4 tensors do not fit" in said
    assert "missing model.layers.1.mlp.up_proj.weight" in said
    assert "unknown model.layers.1.mlp.upp_proj.weight [40, 24]" in said
    assert "and 1 more" in said
    tensors["model.layers.1.mlp.up_proj.weight"] = tensors.pop("model.layers.1.mlp.upp_proj.weight")
    save_file(tensors, file)
    said = message(folder)
    assert "model.norm.weight has shape [23], expected [24]" in said
    assert f"{name} has dtype I32" in said


def test_a_config_of_another_model(folder: Path) -> None:
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(described | {"num_hidden_layers": 9}))
    assert "layer_types is" in message(folder, GemkitError)
    described |= {"num_hidden_layers": 9, "layer_types": None}
    (folder / "config.json").write_text(json.dumps(described))
    said = message(folder)
    assert "66 tensors do not fit: missing model.layers.3." in said and "and 63 more" in said


def test_a_missing_shard(sharded: Path) -> None:
    shard = sorted(sharded.glob("*.safetensors"))[1]
    shard.unlink()
    said = message(sharded)
    assert f"lacks the shard {shard.name} that model.safetensors.index.json names" in said


@pytest.mark.parametrize(
    "name", ["../evil.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", 7, None, ["x"]]
)
def test_shard_names_stay_in_the_folder(sharded: Path, name: Any) -> None:
    index = sharded / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["model.norm.weight"] = name
    index.write_text(json.dumps(content))
    assert f"names the shard {name!r}" in message(sharded)


def test_shards_may_be_links(sharded: Path, tmp_path: Path) -> None:
    """Hugging Face's cache keeps files elsewhere and links to them."""
    shard = sorted(sharded.glob("*.safetensors"))[0]
    shard.rename(tmp_path / "blob")
    shard.symlink_to(tmp_path / "blob")
    assert load_checkpoint(sharded).report.loaded == 35


@pytest.mark.parametrize("content", ["{}", '{"weight_map": []}', '{"weight_map": {}}', "[]", ""])
def test_damaged_index(sharded: Path, content: str) -> None:
    (sharded / "model.safetensors.index.json").write_text(content)
    assert "model.safetensors.index.json" in message(sharded)


def test_index_and_shards_that_disagree(sharded: Path) -> None:
    index = sharded / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    place = content["weight_map"].pop("model.norm.weight")
    index.write_text(json.dumps(content))
    assert f"{place} holds model.norm.weight, which" in message(sharded)
    other = next(name for name in content["weight_map"].values() if name != place)
    content["weight_map"]["model.norm.weight"] = other
    index.write_text(json.dumps(content))
    assert f"{other} lacks model.norm.weight" in message(sharded)


@pytest.mark.parametrize("cut", [0, 100, 5000, -8])
def test_damaged_h5(preset: Path, cut: int) -> None:
    file = preset / "model.weights.h5"
    file.write_bytes(file.read_bytes()[:cut])
    assert "is damaged or no HDF5 file" in message(preset)


def test_no_weights_in_a_preset(preset: Path) -> None:
    (preset / "model.weights.h5").unlink()
    assert "has neither model.weights.h5 nor model.weights.json" in message(preset)


def test_damaged_tokenizers(folder: Path) -> None:
    for content in (b"", b"no model", (folder / "tokenizer.model").read_bytes()[:700]):
        (folder / "tokenizer.model").write_bytes(content)
        with pytest.raises(TokenizerError) as caught:
            load_checkpoint(folder)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "model.weights.h5"])
def test_flipped_bits_never_crash(folder: Path, preset: Path, name: str) -> None:
    """Either the damage is noticed, in one line, or it only changed values."""
    where = preset if name.endswith("h5") else folder
    file = where / name
    whole = file.read_bytes()
    rng = random.Random(5)
    noticed = 0
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(min(len(whole), 4000))] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        try:
            load_checkpoint(where)
        except GemkitError as error:
            noticed += 1
            assert "\n" not in str(error)
    assert noticed > 10
