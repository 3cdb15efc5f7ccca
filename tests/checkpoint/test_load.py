"""Recognising formats, streaming, saving all or nothing, hashing."""

import dataclasses
import gc
import json
import resource
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from gemkit.checkpoint.files import Stored, Tensors
from gemkit.checkpoint.formats import FORMATS
from gemkit.checkpoint.hf import weights as huggingface
from gemkit.checkpoint.keras import write as keras_write
from gemkit.checkpoint.load import load_checkpoint, params_hash
from gemkit.checkpoint.save import save_checkpoint
from gemkit.errors import CheckpointError, ConfigError, UsageError
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params
from gemkit.text.tokenizer import Tokenizer

Make = Callable[..., Params]
Same = Callable[[Params, Params], bool]


@pytest.fixture
def config(tiny: dict[str, GemmaConfig]) -> GemmaConfig:
    return tiny["gemma1"]


def leftovers(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "has no config.json; it holds nothing"),
        ({"a.onnx": "", "b.txt": ""}, "has no config.json; it holds a.onnx, b.txt"),
        ({"adapter_config.json": "{}"}, "this is an adapter: name its base model"),
        ({"config.json": "{}"}, "has neither model_type nor registered_name"),
    ],
)
def test_folders_that_are_no_model(tmp_path: Path, files: dict[str, str], said: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path)
    assert said in str(caught.value)
    assert "a Hugging Face folder (config.json, *.safetensors)" in str(caught.value)


def test_paths_that_are_no_model(tmp_path: Path, config: GemmaConfig, weights: Make) -> None:
    with pytest.raises(CheckpointError, match=r"none does not exist"):
        load_checkpoint(tmp_path / "none")
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"model\.bin is a \.bin file"):
        load_checkpoint(tmp_path / "model.bin")
    save_checkpoint(tmp_path / "m", config, weights(config), None)
    (tmp_path / "m" / "model.weights.h5").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="does not belong to the config.json"):
        load_checkpoint(tmp_path / "m" / "model.weights.h5")


def test_a_folder_without_weights(tmp_path: Path, config: GemmaConfig, weights: Make) -> None:
    folder = tmp_path / "m"
    save_checkpoint(folder, config, weights(config), None)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin, a pickle that could run any"):
        load_checkpoint(folder)


def test_a_model_may_have_no_tokenizer(
    tmp_path: Path, config: GemmaConfig, weights: Make
) -> None:
    save_checkpoint(tmp_path / "m", config, weights(config), None)
    assert load_checkpoint(tmp_path / "m").tokenizer is None


def test_wrong_arguments(tmp_path: Path, config: GemmaConfig, weights: Make) -> None:
    with pytest.raises(UsageError, match="format is 'onnx'"):
        save_checkpoint(tmp_path / "m", config, weights(config), None, format="onnx")
    save_checkpoint(tmp_path / "m", config, weights(config), None)
    for dtype in ("int8", "float99"):
        with pytest.raises(UsageError, match=f"dtype is {dtype}"):
            load_checkpoint(tmp_path / "m", dtype=dtype)


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_one_tensor_is_read_at_a_time(
    tmp_path: Path, config: GemmaConfig, weights: Make, monkeypatch: pytest.MonkeyPatch,
    dtype: str | None,
) -> None:  # fmt: skip
    save_checkpoint(tmp_path / "m", config, weights(config), None)
    read_so_far: list[weakref.ref[np.ndarray]] = []
    original = huggingface.read_tensors

    def watched(path: Path, multimodal: bool) -> Tensors:
        tensors = original(path, multimodal)

        def watch(stored: Stored) -> Stored:
            def read() -> np.ndarray:
                gc.collect()  # JAX lets go of what it copied from when it is next called
                assert [ref() for ref in read_so_far if ref() is not None] == []
                array = stored.read()
                read_so_far.append(weakref.ref(array))
                return array

            return dataclasses.replace(stored, read=read)

        found = {name: watch(stored) for name, stored in tensors.found.items()}
        return dataclasses.replace(tensors, found=found)

    monkeypatch.setattr(huggingface, "read_tensors", watched)
    gc.freeze()  # what other tests have left need not be gone through each time
    try:
        load_checkpoint(tmp_path / "m", dtype)
    finally:
        gc.unfreeze()
    assert len(read_so_far) == 20


FOLDERS = [name for name, row in FORMATS.items() if not row.one_file]
SHARDS = {"hf": huggingface, "keras": keras_write}


@pytest.mark.parametrize("after", FOLDERS)
@pytest.mark.parametrize("before", FOLDERS)
def test_a_folder_of_ours_is_replaced(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, same: Same,
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, before: str, after: str,
) -> None:  # fmt: skip
    """Of the earlier write, in shards and with a vocabulary, nothing is left."""
    old, new = tiny["gemma3"], tiny["gemma1"]
    folder = tmp_path / "m"
    if before in SHARDS:
        monkeypatch.setattr(SHARDS[before], "SHARD_BYTES", 50_000)
    save_checkpoint(folder, old, weights(old), tokenizer, before)
    monkeypatch.undo()
    save_checkpoint(tmp_path / "fresh", new, weights(new), None, after)
    save_checkpoint(folder, new, weights(new), None, after)
    assert same(load_checkpoint(folder).params, weights(new))
    if after != "flax":  # where names of files are drawn
        assert leftovers(folder) == leftovers(tmp_path / "fresh")
    assert leftovers(tmp_path) == ["fresh", "m"]


def test_a_model_may_be_saved_over_itself(
    tmp_path: Path, config: GemmaConfig, weights: Make, same: Same
) -> None:
    save_checkpoint(tmp_path / "m", config, weights(config), None)
    loaded = load_checkpoint(tmp_path / "m")
    save_checkpoint(tmp_path / "m", loaded.config, loaded.params, None)
    assert same(load_checkpoint(tmp_path / "m").params, weights(config))


def test_an_empty_folder_is_filled(tmp_path: Path, config: GemmaConfig, weights: Make) -> None:
    (tmp_path / "m").mkdir()
    save_checkpoint(tmp_path / "m", config, weights(config), None)
    assert load_checkpoint(tmp_path / "m").report.loaded == 20
    modes = {file.name: file.stat().st_mode for file in (tmp_path / "m").iterdir()}
    assert modes["model.safetensors"] == modes["config.json"]


@pytest.mark.parametrize("added", ["notes.txt", "model_backup.safetensors", "sub/file"])
@pytest.mark.parametrize("format", FOLDERS)
def test_files_of_the_user_are_kept(
    tmp_path: Path, config: GemmaConfig, weights: Make, added: str, format: str
) -> None:
    folder = tmp_path / "m"
    save_checkpoint(folder, config, weights(config), None, format)
    (folder / added).parent.mkdir(exist_ok=True)
    (folder / added).write_text("mine")
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with pytest.raises(CheckpointError, match="is not empty"):
        save_checkpoint(folder, config, weights(config), None, format)
    assert before == {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_folders_of_others_are_kept(tmp_path: Path, config: GemmaConfig, weights: Make) -> None:
    folder = tmp_path / "m"
    save_checkpoint(folder, config, weights(config), None)
    described = json.loads((folder / "config.json").read_text())
    del described["gemkit_version"]
    (folder / "config.json").write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match="is not empty"):
        save_checkpoint(folder, config, weights(config), None)
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "file").write_text("mine")
    for name in ("link", "file"):
        with pytest.raises(CheckpointError, match=f"{name} is not a folder"):
            save_checkpoint(tmp_path / name, config, weights(config), None)


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, config: GemmaConfig, weights: Make, tokenizer: Tokenizer
) -> None:
    """The file-size limit stands in for the disk: writing fails half way through."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (0, 1000, 20_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(CheckpointError) as caught:
                save_checkpoint(tmp_path / "m", config, weights(config), tokenizer)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        message = str(caught.value)
        assert "File too large" in message and "nothing was changed" in message
        assert "\n" not in message
        assert leftovers(tmp_path) == []


@pytest.mark.parametrize("format", FOLDERS)
def test_a_failure_keeps_the_older_folder(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, same: Same,
    monkeypatch: pytest.MonkeyPatch, format: str,
) -> None:  # fmt: skip
    old = tiny["gemma1"]
    save_checkpoint(tmp_path / "m", old, weights(old), None, format)

    def interrupted(path: Path, text: str, *_: Any) -> None:
        path.write_bytes(text.encode())
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "m", tiny["gemma2"], weights(tiny["gemma2"]), None, format)
    monkeypatch.undo()
    assert leftovers(tmp_path) == ["m"]
    assert same(load_checkpoint(tmp_path / "m").params, weights(old))


def test_too_little_room_is_noticed_before_writing(
    tmp_path: Path, config: GemmaConfig, weights: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(CheckpointError, match="needs 72672 bytes and 1000 are free"):
        save_checkpoint(tmp_path / "m", config, weights(config), None)
    assert leftovers(tmp_path) == []


def test_weights_that_cannot_be_saved(tmp_path: Path, config: GemmaConfig, weights: Make) -> None:
    params = weights(config)
    for other, said in (
        ({"embed": params["embed"].astype(int)}, r"embed is int32\[320, 24\]"),
        ({"final_norm": jnp.zeros(3)}, r"final_norm is float32\[3\]"),
        ({"embed": "packed"}, "embed is a str; expected plain arrays; merge the adapter"),
        ({"extra": jnp.zeros(3)}, "differ at extra"),
    ):
        with pytest.raises(CheckpointError, match=said):
            save_checkpoint(tmp_path / "m", config, params | other, None)
    with pytest.raises(ConfigError, match="cannot express final_logit_softcap"):
        capped = dataclasses.replace(config, final_logit_softcap=30.0)
        save_checkpoint(tmp_path / "m", capped, params, None)
    assert leftovers(tmp_path) == []


def test_the_hash_knows_values_paths_and_dtypes(config: GemmaConfig, weights: Make) -> None:
    params = weights(config)
    digest = params_hash(params)
    assert len(digest) == 64 and digest == params_hash(weights(config))
    reordered = dict(reversed(list(params.items())))
    assert params_hash(reordered) == digest
    nudged = params["embed"].at[0, 0].add(1e-6)
    swapped = {**params, "embed": params["final_norm"], "final_norm": params["embed"]}
    others = (
        weights(config, "bfloat16"),
        params | {"embed": nudged},
        params | {"embed": params["embed"].reshape(24, 320)},
        swapped,
    )
    assert len({digest, *(params_hash(other) for other in others)}) == 5
    with pytest.raises(CheckpointError, match="embed is a str; expected plain arrays"):
        params_hash(params | {"embed": "packed"})


def test_the_hash_does_not_depend_on_the_file(
    tmp_path: Path, config: GemmaConfig, weights: Make, write_preset: Callable[...,
    Any], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    params = weights(config)
    monkeypatch.setattr(huggingface, "SHARD_BYTES", 10_000)
    save_checkpoint(tmp_path / "hf", config, params, None)
    write_preset(tmp_path / "keras", config, params)
    hashes = {params_hash(load_checkpoint(tmp_path / name).params) for name in ("hf", "keras")}
    assert hashes == {params_hash(params)}
