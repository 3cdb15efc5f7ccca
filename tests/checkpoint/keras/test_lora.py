"""Keras' LoRA files, written here by h5py and the documented numbering alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import jax.numpy as jnp
import numpy as np
import pytest

from gemkit.adapt.lora import Adapter, Lora
from gemkit.checkpoint.keras.lora import (
    layer_numbers,
    loading_hint,
    read_adapter,
    write_adapter,
)
from gemkit.errors import CheckpointError, UsageError
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import specs

R = 3
# Tiny models: N = 4, K = 2, D = 24, H = 8, F = 40.
KERNELS = {
    "q": (4, 24, 8), "k": (2, 24, 8), "v": (2, 24, 8), "o": (4, 8, 24), "gate": (24, 40),
    "up": (24, 40), "down": (40, 24),
}  # fmt: skip
# Model → (layers of a block, number in it of each matrix), from the reference on formats.
NUMBERS: dict[str, tuple[int, dict[str, int]]] = {
    "gemma1": (11, {"down": 1, "up": 2, "gate": 3, "o": 6, "v": 7, "k": 8, "q": 9}),
    "gemma2": (13, {"down": 1, "up": 2, "gate": 3, "o": 7, "v": 8, "k": 9, "q": 10}),
    "gemma3": (15, {"down": 1, "up": 2, "gate": 3, "o": 7, "v": 10, "k": 11, "q": 12}),
}


def keras_file(path: Path, config: GemmaConfig, name: str, targets: str = "q v") -> dict[str, Any]:
    """A file as `save_lora_weights` makes it; what it holds, by dataset."""
    rng = np.random.default_rng(4)
    size, numbers = NUMBERS[name]
    written: dict[str, Any] = {"lora/vars/rank": np.int64(R)}
    for block in range(config.num_layers):
        for target in targets.split():
            kernel = KERNELS[target]
            stem = f"lora/{1 + size * block + numbers[target]}/vars/lora_kernel_"
            written[f"{stem}a"] = rng.normal(size=(*kernel[:-1], R)).astype(np.float32)
            written[f"{stem}b"] = rng.normal(size=(R, kernel[-1])).astype(np.float32)
    with h5py.File(path, "w") as file:
        for dataset, values in written.items():
            file[dataset] = values
    return written


def contents(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, node: found.update({name: node[()]})
            if isinstance(node, h5py.Dataset) else None
        )  # fmt: skip
    return found


def updates(lora: Lora, adapter: Adapter) -> dict[str, np.ndarray]:
    return {
        path: lora.scale_of(path) * np.asarray(pair["b"], np.float64).T @ np.asarray(pair["a"])
        for path, pair in adapter.items()
    }


def random_adapter(config: GemmaConfig, targets: str, rank: int = R) -> Adapter:
    rng = np.random.default_rng(9)
    return {
        path: {
            "a": jnp.asarray(rng.normal(size=(rank, spec.shape[1])), jnp.float32),
            "b": jnp.asarray(rng.normal(size=(rank, spec.shape[0])), jnp.float32),
        }
        for path, spec in specs(config).items()
        if path.rsplit(".", 1)[-1] in targets.split()
    }


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_layers(tiny: dict[str, GemmaConfig], name: str) -> None:
    size, numbers = NUMBERS[name]
    found = layer_numbers(tiny[name])
    for path, number in found.items():
        block, matrix = int(path.split(".")[1]), path.rsplit(".", 1)[-1]
        assert number == 1 + size * block + numbers[matrix]
    assert len(found) == 7 * tiny[name].num_layers


@pytest.mark.parametrize("targets", ["q v", "q k v o gate up down"])
@pytest.mark.parametrize("name", NUMBERS)
def test_reading_gives_kerass_updates(
    tmp_path: Path, tiny: dict[str, GemmaConfig], name: str, targets: str
) -> None:
    written = keras_file(tmp_path / "x.lora.h5", tiny[name], name, targets)
    lora, adapter = read_adapter(tmp_path / "x.lora.h5", tiny[name])
    found = updates(lora, adapter)
    assert len(found) == len(targets.split()) * tiny[name].num_layers
    for path, update in found.items():
        stem = f"lora/{layer_numbers(tiny[name])[path]}/vars/lora_kernel_"
        kernel = written[f"{stem}a"].astype(np.float64) @ written[f"{stem}b"]
        matrix = path.rsplit(".", 1)[-1]
        if matrix in "qkv":
            ours = update.reshape(kernel.shape[0], 8, 24).transpose(0, 2, 1)
        else:
            ours = update.T.reshape(kernel.shape)
        np.testing.assert_allclose(ours, kernel, rtol=1e-5, atol=1e-6)
        heads = kernel.shape[0] if matrix in "qkv" else 1
        assert len(adapter[path]["a"]) == lora.rank_of(path) == R * heads
        assert lora.scale_of(path) == 1


@pytest.mark.parametrize("name", NUMBERS)
def test_what_was_read_is_written_bit_for_bit(
    tmp_path: Path, tiny: dict[str, GemmaConfig], name: str
) -> None:
    written = keras_file(tmp_path / "x.lora.h5", tiny[name], name, "q k v o gate up down")
    lora, adapter = read_adapter(tmp_path / "x.lora.h5", tiny[name])
    assert write_adapter(tmp_path / "y.lora.h5", tiny[name], lora, adapter) == 0
    found = contents(tmp_path / "y.lora.h5")
    assert found.keys() == written.keys()
    assert all(np.array_equal(found[key], written[key]) for key in written)


def test_one_head_for_keys_and_values_is_plain_lora(tmp_path: Path) -> None:
    config = GemmaConfig(
        num_layers=2, hidden_size=24, intermediate_size=40, num_heads=4, num_kv_heads=1,
        head_dim=8, vocab_size=320, query_scale=0.25,
    )  # fmt: skip
    lora, adapter = Lora(R, alpha=6.0, targets=("v",)), random_adapter(config, "v")
    assert write_adapter(tmp_path / "x.lora.h5", config, lora, adapter) == 0
    found = contents(tmp_path / "x.lora.h5")
    assert found["lora/vars/rank"] == R
    pair = adapter["layers.1.attn.v"]
    assert np.array_equal(found["lora/19/vars/lora_kernel_a"][0], pair["a"].T)
    # Keras' file has no scale: alpha / R is in B.
    assert np.array_equal(found["lora/19/vars/lora_kernel_b"], 2 * pair["b"])
    # Keras reads queries too, so they are there and change nothing.
    assert not found["lora/21/vars/lora_kernel_a"].any()
    back, read = read_adapter(tmp_path / "x.lora.h5", config)
    assert np.array_equal(updates(back, read)["layers.1.attn.v"],
                          updates(lora, adapter)["layers.1.attn.v"])  # fmt: skip


def test_a_b_for_each_head_needs_a_larger_rank(
    tmp_path: Path, tiny: dict[str, GemmaConfig]
) -> None:
    config, lora = tiny["gemma3"], Lora(2, alpha=5.0, targets=("q",), rslora=True)
    adapter, file = random_adapter(config, "q", 2), tmp_path / "x.lora.h5"
    with pytest.raises(UsageError, match=r"attn.q needs rank 8 where all heads share one B"):
        write_adapter(file, config, lora, adapter)
    assert not list(tmp_path.iterdir())
    assert write_adapter(file, config, lora, adapter, rank=8) == 0
    given, found = updates(lora, adapter), updates(*read_adapter(file, config))
    for path, update in given.items():
        np.testing.assert_allclose(found[path], update, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_the_approximation_is_the_nearest_and_says_how_near(
    tmp_path: Path, tiny: dict[str, GemmaConfig], rank: int
) -> None:
    config, lora = tiny["gemma2"], Lora(2, targets=("q", "v", "down"))
    adapter = random_adapter(config, "q v down", 2)
    file = tmp_path / "x.lora.h5"
    lost = write_adapter(file, config, lora, adapter, approximate=True, rank=rank)
    given, found = updates(lora, adapter), updates(*read_adapter(file, config))
    missed = sum(np.sum((given[path] - found[path]) ** 2) for path in given)
    total = sum(np.sum(update**2) for update in given.values())
    assert lost == pytest.approx(np.sqrt(missed / total), rel=1e-4)
    # No matrix of that rank is nearer: the singular values left out are all that is missed.
    least = 0.0
    for path, update in given.items():
        side_by_side = update.T
        if path.rsplit(".", 1)[-1] in "qv":
            side_by_side = update.reshape(-1, 8, 24).transpose(1, 0, 2).reshape(8, -1)
        least += float(np.sum(np.linalg.svd(side_by_side, compute_uv=False)[rank:] ** 2))
    assert missed == pytest.approx(least, rel=1e-4)


def test_the_approximation_keeps_the_adapters_rank(
    tmp_path: Path, tiny: dict[str, GemmaConfig]
) -> None:
    config = tiny["gemma1"]
    adapter = random_adapter(config, "q v", 2)
    lost = write_adapter(tmp_path / "x.lora.h5", config, Lora(2), adapter, approximate=True)
    assert 0.1 < lost < 1
    assert contents(tmp_path / "x.lora.h5")["lora/vars/rank"] == 2


def test_a_fresh_adapter_stays_zero(tmp_path: Path, tiny: dict[str, GemmaConfig]) -> None:
    config = tiny["gemma1"]
    fresh = {
        path: {"a": pair["a"], "b": jnp.zeros_like(pair["b"])}
        for path, pair in random_adapter(config, "q v", 2).items()
    }
    assert write_adapter(tmp_path / "x.lora.h5", config, Lora(2), fresh) == 0
    _, back = read_adapter(tmp_path / "x.lora.h5", config)
    assert not any(pair["b"].any() for pair in back.values())


def test_adapters_that_are_no_update_of_this_model(
    tmp_path: Path, tiny: dict[str, GemmaConfig]
) -> None:
    config, file = tiny["gemma1"], tmp_path / "x.lora.h5"
    adapter = random_adapter(config, "o")
    pair = adapter["layers.0.attn.o"]
    magnitude = {**adapter, "layers.0.attn.o": {**pair, "m": jnp.ones(24)}}
    with pytest.raises(CheckpointError, match="has a, b, m for layers.0.attn.o"):
        write_adapter(file, config, Lora(R), magnitude)
    with pytest.raises(CheckpointError, match="has a, b for layers.9.attn.o"):
        write_adapter(file, config, Lora(R), {"layers.9.attn.o": pair})
    with pytest.raises(CheckpointError, match=r"a \[3, 32\] and b \[3, 24\]; expected \[R, 24\]"):
        write_adapter(file, config, Lora(R), {"layers.0.mlp.gate": pair})
    assert not file.exists()


def test_what_to_say_to_keras_first(tiny: dict[str, GemmaConfig]) -> None:
    assert loading_hint(random_adapter(tiny["gemma1"], "v")) is None
    hint = loading_hint(random_adapter(tiny["gemma1"], "gate"))
    assert hint is not None and 'target_layer_names=["query", "value", "ffw_gating"]' in hint


def delete(file: Any, name: str) -> None:
    del file[name]


def replace(file: Any, name: str, values: Any) -> None:
    del file[name]
    file[name] = values


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: delete(f, "lora/vars/rank"), "has no whole number lora/vars/rank"),
        (lambda f: replace(f, "lora/vars/rank", 2.0), "has no whole number lora/vars/rank"),
        (lambda f: replace(f, "lora/vars/rank", np.int64(-1)), "lora/vars/rank is -1"),
        (lambda f: replace(f, "lora/vars/rank", np.int64(2**62)), r"lora/vars/rank is 46116"),
        (lambda f: replace(f, "lora/vars/rank", np.int64(2)), r"is float32\[4, 24, 3\]; expected"),
        (lambda f: delete(f, "lora/10"), r"lacks layers.0.attn.q \(layer 10\)"),
        (lambda f: delete(f, "lora/8/vars/lora_kernel_b"), r"_b of .*v \(layer 8\) is a"),
        (lambda f: f.move("lora/10", "lora/11"), "adapts layer 11, which is no matrix"),
        (lambda f: f.move("lora/10", "lora/x"), "holds lora/x/vars/lora_kernel_a"),
        (lambda f: replace(f, "lora/8/vars/lora_kernel_a", np.int8([[[1]]])), "a of .* is int8"),
    ],
)  # fmt: skip
def test_files_that_are_no_adapter_of_this_model(
    tmp_path: Path, tiny: dict[str, GemmaConfig], damage: Callable[[Any], None], said: str
) -> None:
    keras_file(tmp_path / "x.lora.h5", tiny["gemma1"], "gemma1")
    with h5py.File(tmp_path / "x.lora.h5", "a") as file:
        damage(file)
    with pytest.raises(CheckpointError, match=said) as caught:
        read_adapter(tmp_path / "x.lora.h5", tiny["gemma1"])
    assert "\n" not in str(caught.value)


def test_an_adapter_of_another_generation_is_refused(
    tmp_path: Path, tiny: dict[str, GemmaConfig]
) -> None:
    keras_file(tmp_path / "x.lora.h5", tiny["gemma1"], "gemma1")
    for name in ("gemma2", "gemma3"):
        with pytest.raises(CheckpointError):
            read_adapter(tmp_path / "x.lora.h5", tiny[name])
