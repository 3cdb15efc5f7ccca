"""Flax checkpoints: what Orbax saved in each layout loads here, and ours is restored by Orbax."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax_trees
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from gemkit.checkpoint.flax import weights as flax
from gemkit.checkpoint.flax.orbax import read_arrays
from gemkit.checkpoint.load import load_checkpoint
from gemkit.checkpoint.save import save_checkpoint
from gemkit.errors import CheckpointError
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params
from gemkit.text.tokenizer import Tokenizer

Make = Callable[..., Params]
Same = Callable[[Params, Params], bool]


@pytest.fixture
def config(config: GemmaConfig, request: pytest.FixtureRequest) -> GemmaConfig:
    """With one head of keys for each of queries where the test asks for it."""
    asked = request.node.callspec.params.get("heads") == "fused"
    return dataclasses.replace(config, num_kv_heads=config.num_heads) if asked else config


@pytest.mark.parametrize("layout", ["nested", "flat", "wrapped", "stacked"])
@pytest.mark.parametrize(("heads", "gates"), [("grouped", "(2, F, D)"), ("fused", "(2, D, F)")])
def test_what_orbax_saved(
    tmp_path: Path, config: GemmaConfig, weights: Make, same: Same, layout: str, heads: str,
    gates: str,
) -> None:  # fmt: skip
    params = weights(config, "bfloat16")
    tree = flax_trees.nested(config, params, by_width=gates == "(2, D, F)")
    if layout == "flat":
        tree = flax_trees.flat(tree)
    elif layout == "stacked":
        tree = flax_trees.stacked(tree, 6)
    elif layout == "wrapped":
        tree = {"params": tree, "step": jnp.int32(3), "opt_state": {"mu": tree}}
    flax_trees.save(tmp_path / "c", tree)
    loaded = load_checkpoint(tmp_path / "c")
    assert same(loaded.params, params)
    sizes = ("num_layers", "num_heads", "num_kv_heads", "intermediate_size", "qk_norm")
    for name in (*sizes, "post_norms", "attention_pattern"):
        assert getattr(loaded.config, name) == getattr(config, name)
    state = {"step"} | {name for name in loaded.report.unused if name.startswith("opt_state.mu.")}
    assert set(loaded.report.unused) == (state if layout == "wrapped" else set())


@pytest.mark.parametrize("ocdbt", [True, False])
@pytest.mark.parametrize("zarr3", [True, False])
@pytest.mark.parametrize("layout", ["nested", "flat"])
def test_ways_of_storage(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, same: Same, ocdbt: bool,
    zarr3: bool, layout: str,
) -> None:  # fmt: skip
    params = weights(tiny["gemma3"], "bfloat16")
    tree = flax_trees.nested(tiny["gemma3"], params)
    tree = flax_trees.flat(tree) if layout == "flat" else tree
    flax_trees.save_as(tmp_path / "c", tree, use_ocdbt=ocdbt, use_zarr3=zarr3)
    assert same(load_checkpoint(tmp_path / "c").params, params)
    # Early in 2024 there was no such file.
    (tmp_path / "c" / "_METADATA").rename(tmp_path / "c" / "checkpoint")
    assert same(load_checkpoint(tmp_path / "c").params, params)


def test_a_step_of_a_run(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, same: Same
) -> None:
    params = weights(tiny["gemma2"])
    flax_trees.save_step(tmp_path / "run", flax_trees.nested(tiny["gemma2"], params))
    for place in ("run", "run/700", "run/700/default"):
        assert same(load_checkpoint(tmp_path / place).params, params)
    (tmp_path / "run" / "800").mkdir()
    assert not flax.recognises(tmp_path / "run")


def test_a_download_of_kaggle(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, tokenizer: Tokenizer
) -> None:
    tree = flax_trees.flat(flax_trees.nested(tiny["gemma1"], weights(tiny["gemma1"])))
    flax_trees.save(tmp_path / "2b", tree)
    for place in (tmp_path, tmp_path / "2b"):
        assert load_checkpoint(place).tokenizer is None
    (tmp_path / "tokenizer.model").write_bytes(tokenizer.proto)
    for place in (tmp_path, tmp_path / "2b"):
        read = load_checkpoint(place).tokenizer
        assert read is not None and read.proto == tokenizer.proto


def test_vision_is_left_out(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, same: Same
) -> None:
    params = weights(tiny["gemma3"])
    tree = flax_trees.nested(tiny["gemma3"], params)
    tree["vision_encoder"] = {"siglip": {"w": jnp.ones((3, 2))}}
    tree["embedder"] |= {"mm_input_projection": {"w": jnp.ones((4, 24))}}
    flax_trees.save(tmp_path / "nested", tree)
    other = flax_trees.flat(flax_trees.nested(tiny["gemma3"], params))
    other["SigLiPFromPatches_0/siglip"] = {"w": jnp.ones((3, 2))}
    flax_trees.save(tmp_path / "flat", other)
    for layout, unused in (
        ("nested", ("embedder.mm_input_projection.w", "vision_encoder.siglip.w")),
        ("flat", ("SigLiPFromPatches_0/siglip.w",)),
    ):
        loaded = load_checkpoint(tmp_path / layout)
        assert same(loaded.params, params) and loaded.report.unused == unused


@pytest.mark.parametrize(("heads", "dtype"), [
    ("grouped", "float32"), ("fused", "bfloat16"), ("grouped", "float16"),
])  # fmt: skip
def test_there_and_back(
    tmp_path: Path, config: GemmaConfig, weights: Make, same: Same, tokenizer: Tokenizer,
    heads: str, dtype: str,
) -> None:  # fmt: skip
    config = dataclasses.replace(config, query_scale=0.21, norm_eps=1e-5, max_positions=77)
    params = weights(config, dtype)
    remarks = save_checkpoint(tmp_path / "c", config, params, tokenizer, "flax")
    assert "gemkit_config.json says query_scale" in remarks[0] and len(remarks) == 1
    loaded = load_checkpoint(tmp_path / "c")
    assert same(loaded.params, params) and loaded.config == config
    assert loaded.tokenizer is not None and loaded.tokenizer.proto == tokenizer.proto
    assert loaded.report.unused == ()


@pytest.mark.parametrize("heads", ["grouped", "fused"])
def test_orbax_restores_what_we_write(
    tmp_path: Path, config: GemmaConfig, weights: Make, heads: str
) -> None:
    params = weights(config, "bfloat16")
    save_checkpoint(tmp_path / "c", config, params, None, "flax")
    wanted = flax_trees.nested(config, params, by_width=not config.qk_norm)
    like = jax.tree.map(ocp.utils.to_shape_dtype_struct, wanted)
    with ocp.StandardCheckpointer() as checkpointer:
        described = checkpointer.metadata(tmp_path / "c").item_metadata.tree
        for restored in (
            checkpointer.restore(tmp_path / "c"),
            checkpointer.restore(tmp_path / "c", like),
        ):
            equal = jax.tree.map(lambda a, b: a.dtype == b.dtype and np.array_equal(a, b),
                                 restored, wanted)  # fmt: skip
            assert all(jax.tree.leaves(equal))
    assert jax.tree.map(lambda leaf: leaf.shape, described) == jax.tree.map(jnp.shape, wanted)


def test_rows_added_to_the_embedding(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, same: Same
) -> None:
    config = dataclasses.replace(tiny["gemma1"], vocab_size=256_000, hidden_size=4, num_layers=1)
    params = weights(config, "bfloat16")
    remarks = save_checkpoint(tmp_path / "c", config, params, None, "flax")
    assert remarks[-1].startswith("128 rows of zeros end the embedding")
    table = read_arrays(tmp_path / "c")["embedder.input_embedding"]
    assert table.shape == (256_128, 4)
    assert not table.read(())[256_000:].any()
    (tmp_path / "c" / "gemkit_config.json").unlink()
    loaded = load_checkpoint(tmp_path / "c")
    assert loaded.config.vocab_size == 256_000 and same(loaded.params, params)
    assert loaded.report.notes == ("128 padding rows of the embedding left out",)


def test_large_arrays_are_written_in_pieces(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, same: Same,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("gemkit.checkpoint.flax.orbax._PIECE_BYTES", 500)
    config = tiny["gemma3"]
    params = weights(config)
    save_checkpoint(tmp_path / "c", config, params, None, "flax")
    loaded = load_checkpoint(tmp_path / "c")
    assert same(loaded.params, params)


def test_square_gates_follow_their_generation(
    tmp_path: Path, config: GemmaConfig, weights: Make, same: Same
) -> None:
    config = dataclasses.replace(config, intermediate_size=config.hidden_size)
    params = weights(config)
    tree = flax_trees.nested(config, params, by_width=not config.qk_norm)
    flax_trees.save(tmp_path / "theirs", flax_trees.flat(tree))
    save_checkpoint(tmp_path / "ours", config, params, None, "flax")
    for name in ("theirs", "ours"):
        assert same(load_checkpoint(tmp_path / name).params, params)


def test_a_fused_array_is_read_once(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in one compressed piece is not unpacked once for each of its matrices."""
    save_checkpoint(tmp_path / "c", tiny["gemma1"], weights(tiny["gemma1"]), None, "flax")
    read: list[str] = []

    def watched(folder: Path) -> Any:
        def watch(array: Any) -> Any:
            def values(index: tuple[int, ...]) -> np.ndarray:
                read.append(array.name)
                return array.read(index)

            return dataclasses.replace(array, read=values)

        return {name: watch(array) for name, array in read_arrays(folder).items()}

    monkeypatch.setattr(flax, "read_arrays", watched)
    load_checkpoint(tmp_path / "c")
    assert len(read) == len(set(read)) == len(read_arrays(tmp_path / "c"))


def test_a_write_that_the_disk_refuses(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("RESOURCE_EXHAUSTED: no space [source locations='x.cc:1\n']")

    monkeypatch.setattr("gemkit.checkpoint.flax.orbax._put", refuse)
    with pytest.raises(CheckpointError, match=r"cannot write .*: RESOURCE_EXHAUSTED: no space;"):
        save_checkpoint(tmp_path / "c", tiny["gemma1"], weights(tiny["gemma1"]), None, "flax")
    assert list(tmp_path.iterdir()) == []


def test_settings_survive(tmp_path: Path, config: GemmaConfig, weights: Make) -> None:
    save_checkpoint(tmp_path / "c", config, weights(config), None, "flax")
    said = json.loads((tmp_path / "c" / "gemkit_config.json").read_text())
    assert said.items() >= config.to_dict().items()
