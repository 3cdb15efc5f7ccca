"""Presets as gemkit writes them: read back here, and file by file as KerasHub wants them."""

import dataclasses
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest

from gemkit.checkpoint.files import Stored
from gemkit.checkpoint.keras import weights as keras
from gemkit.checkpoint.keras import write as keras_write
from gemkit.checkpoint.keras.config import read_config, write_config
from gemkit.checkpoint.load import load_checkpoint
from gemkit.checkpoint.save import save_checkpoint
from gemkit.errors import CheckpointError, ConfigError
from gemkit.model import variants
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params
from gemkit.text.tokenizer import Tokenizer

Make = Callable[..., Params]
Same = Callable[[Params, Params], bool]
Describe = Callable[[GemmaConfig], dict[str, Any]]


@pytest.mark.parametrize("shard_bytes", [10**9, 8_000])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_presets_come_back(
    tmp_path: Path, config: GemmaConfig, weights: Make, same: Same, tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch, dtype: str, shard_bytes: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(keras_write, "SHARD_BYTES", shard_bytes)
    params = weights(config, dtype)
    save_checkpoint(tmp_path / "p", config, params, tokenizer, "keras")
    loaded = load_checkpoint(tmp_path / "p")
    assert loaded.config == config
    assert same(loaded.params, params)
    assert loaded.tokenizer is not None and loaded.tokenizer.proto == tokenizer.proto


def test_the_files_of_a_preset(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, tokenizer: Tokenizer
) -> None:
    config, folder = tiny["gemma1"], tmp_path / "p"
    save_checkpoint(folder, config, weights(config, "bfloat16"), tokenizer, "keras")
    files = {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}
    assert files == {
        "config.json", "metadata.json", "task.json", "preprocessor.json", "tokenizer.json",
        "assets/tokenizer/vocabulary.spm", "model.weights.h5",
    }  # fmt: skip
    read = {name: json.loads((folder / name).read_text()) for name in files if "json" in name}
    parts = read["task.json"]["config"]
    assert parts["backbone"] == read["config.json"]
    assert parts["preprocessor"] == read["preprocessor.json"]
    assert parts["preprocessor"]["config"]["tokenizer"] == read["tokenizer.json"]
    assert read["task.json"]["registered_name"] == "keras_hub>GemmaCausalLM"
    assert read["metadata.json"]["parameter_count"] == sum(
        leaf.size for leaf in _leaves(weights(config))
    )
    with h5py.File(folder / "model.weights.h5") as file:
        dataset = file["layers/gemma_decoder_block_1/ffw_linear/vars/0"]
        assert (dataset.dtype, dict(dataset.attrs)) == (np.dtype("V2"), {"dtype": "bfloat16"})


def _leaves(tree: Any) -> list[Any]:
    children = tree.values() if isinstance(tree, dict) else tree
    return (
        [leaf for child in children for leaf in _leaves(child)]
        if isinstance(tree, dict | list) else [tree]
    )  # fmt: skip


def test_without_a_tokenizer_there_is_no_task(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make
) -> None:
    save_checkpoint(tmp_path / "p", tiny["gemma3"], weights(tiny["gemma3"]), None, "keras")
    assert {f.name for f in (tmp_path / "p").iterdir()} == {
        "config.json", "metadata.json", "model.weights.h5",
    }  # fmt: skip
    assert load_checkpoint(tmp_path / "p").tokenizer is None


def test_shards_are_filled_and_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_write, "SHARD_BYTES", 40)
    sizes = {"a/vars/0": 4, "b/vars/0": 6, "c/vars/0": 1, "d/vars/0": 20, "e/vars/0": 3}
    tensors = {n: _stored(n, np.arange(k, dtype=np.float32)) for n, k in sizes.items()}
    keras_write._write_tensors(tmp_path, tensors)
    index = json.loads((tmp_path / "model.weights.json").read_text())
    assert index == {
        "metadata": {"total_size": 136.0},
        "weight_map": {
            f"/{n}/vars": f"model_0000{i}.weights.h5" for n, i in ("a0", "b0", "c1", "d2", "e3")
        },
    }
    found = {
        name: tensor.read()
        for file in tmp_path.glob("*.h5")
        for name, tensor in keras.datasets(file).items()
    }
    assert {name: len(values) for name, values in found.items()} == sizes


def _stored(name: str, values: np.ndarray) -> Stored:
    return Stored(name, values.shape, values.dtype.name, lambda: values)


def test_one_tensor_is_in_memory_at_a_time(tmp_path: Path) -> None:
    alive: list[weakref.ref[np.ndarray]] = []

    def read() -> np.ndarray:
        assert not [ref for ref in alive if ref() is not None]
        values = np.ones((64, 64), ml_dtypes.bfloat16)
        alive.append(weakref.ref(values))
        return values

    names = [f"layers/x_{number}/vars/0" for number in range(5)]
    tensors = {name: Stored(name, (64, 64), "bfloat16", read) for name in names}
    keras_write._write_tensors(tmp_path, tensors)
    assert len(alive) == 5


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_every_variant_can_be_described(keras_config: Describe, name: str) -> None:
    published = variants.VARIANTS[name].config
    described, remarks = write_config(published, "float32")
    assert read_config(described) == published
    assert bool(remarks) == (published.query_scale != published.head_dim**-0.5)
    theirs = keras_config(published)
    for key in ("name", "dtype"):
        del theirs["config"][key], described["config"][key]
    if not published.sliding_window:
        theirs["config"]["sliding_window_size"] = described["config"]["sliding_window_size"]
    assert described["config"] == theirs["config"]
    assert described["registered_name"] == theirs["registered_name"]


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("gemma1", "rope_theta", 9000.0),
        ("gemma1", "rope_scale", 8.0),
        ("gemma1", "norm_eps", 1e-5),
        ("gemma1", "query_scale", 0.3),
        ("gemma2", "rope_local_theta", 9000.0),
        ("gemma2", "attention_pattern", ("global", "local")),
        ("gemma2", "query_scale", 0.3),
        ("gemma3", "rope_theta", 10_000.0),
        ("gemma3", "rope_local_theta", 1_000_000.0),
        ("gemma3", "attention_pattern", ("local", "global")),
    ],
)
def test_what_keras_cannot_express(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, name: str, setting: str,
    value: Any,
) -> None:  # fmt: skip
    config = dataclasses.replace(tiny[name], **{setting: value})
    with pytest.raises(ConfigError, match=rf"Backbone cannot express {setting} \S") as caught:
        save_checkpoint(tmp_path / "p", config, weights(config), None, "keras")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_settings_that_are_idle_are_no_obstacle(tiny: dict[str, GemmaConfig]) -> None:
    idle = {"rope_local_theta": 9000.0, "max_positions": 77, "sliding_window": 3}
    described, remarks = write_config(dataclasses.replace(tiny["gemma1"], **idle), "float32")
    assert remarks == ()
    # Four layers of Gemma 3 are all local.
    short = dataclasses.replace(tiny["gemma3"], num_layers=4, rope_theta=5.0, rope_scale=3.0)
    assert write_config(short, "float32")[0]["config"]["num_layers"] == 4


@pytest.mark.parametrize(
    ("files", "path", "answer"),
    [
        ({"config.json": '{"registered_name": "keras_hub>GemmaBackbone"}'}, "", True),
        ({"config.json": '{"class_name": "GemmaBackbone"}', "w.h5": ""}, "w.h5", True),
        ({"config.json": '{"class_name": "GemmaBackbone"}', "w.lora.h5": ""}, "w.lora.h5", False),
        ({"config.json": '{"class_name": "x", "model_type": "gemma"}'}, "", False),
        ({"config.json": "{"}, "", False),
        ({}, "", False),
        ({"w.gguf": ""}, "w.gguf", False),
        ({}, "absent", False),
    ],
)
def test_recognises(tmp_path: Path, files: dict[str, str], path: str, answer: bool) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert keras.recognises(tmp_path / path) is answer


def test_a_file_that_ends_too_early(tmp_path: Path) -> None:
    file = tmp_path / "w.h5"
    keras_write._write_file(file, {"a/vars/0": _stored("a", np.ones(5000, np.float32))})
    whole = file.read_bytes()
    # The length that the file says it has is cut as well.
    ends = [length.to_bytes(8, "little") for length in (len(whole), 9000)]
    for short in (whole[:9000], whole[:9000].replace(*ends)):
        file.write_bytes(short)
        with pytest.raises(CheckpointError, match=r"w.h5 \(9000 bytes\) (is damaged|ends before)"):
            keras.datasets(file)


def test_arrays_in_chunks_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_dataset("a", data=np.zeros(9), compression="gzip")
    with pytest.raises(CheckpointError, match="a is compressed, in chunks or empty"):
        keras.datasets(tmp_path / "w.h5")


def test_an_absurd_shape_costs_nothing(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_dataset("a", shape=(2**40, 2**20), dtype="f4")
    with pytest.raises(CheckpointError, match="in chunks or empty"):
        keras.datasets(tmp_path / "w.h5")


def test_a_full_disk_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(h5py.File):
        def close(self) -> None:
            super().close()
            raise RuntimeError("Can't decrement id ref count (unable to extend file properly)")

    monkeypatch.setattr(h5py, "File", Full)
    with pytest.raises(OSError, match="unable to extend"):
        keras_write._write_file(tmp_path / "w.h5", {"a": _stored("a", np.ones(3))})
