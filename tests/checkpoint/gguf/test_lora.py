"""Adapters in GGUF files: scales, ranks, the library's reading, and what does not belong."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from gemkit.adapt.lora import Adapter, Lora, init_adapter
from gemkit.checkpoint.files import Stored
from gemkit.checkpoint.gguf import lora as gguf_lora
from gemkit.checkpoint.gguf.blocks import TYPES
from gemkit.checkpoint.gguf.lora import read_adapter, write_adapter
from gemkit.checkpoint.gguf.weights import opened, write_file
from gemkit.errors import CheckpointError, ConfigError
from gemkit.model.config import GemmaConfig


def drawn(config: GemmaConfig, lora: Lora) -> Adapter:
    """An adapter of which no matrix is zero."""
    rng = np.random.default_rng(4)
    return {
        path: {key: jnp.asarray(rng.normal(size=x.shape), "float32") for key, x in pair.items()}
        for path, pair in init_adapter(config, lora, 0).items()
    }


def products(lora: Lora, adapter: Adapter) -> dict[str, np.ndarray]:
    """What each matrix gets added, [out, in]."""
    return {
        path: lora.scale_of(path) * np.asarray(pair["b"]).T @ np.asarray(pair["a"])
        for path, pair in adapter.items()
    }


LORAS = {
    "usual": (Lora(rank=4, alpha=8.0), 0),
    "no alpha": (Lora(rank=2, targets=("q", "v")), 0),
    "alpha of four bytes": (Lora(rank=4, alpha=0.1), 0),
    "rslora": (Lora(rank=4, alpha=3.0, rslora=True), 0),
    "ranks": (Lora(rank=4, alpha=8.0, rank_pattern={"q": 2, "down": 8}), 0),
    "ranks of rslora": (Lora(rank=4, rslora=True, alpha=1.0, rank_pattern={"q": 1}), 2),
    "alphas": (Lora(rank=4, alpha=8.0, alpha_pattern={"layers.1.attn.k": 3.0}), 1),
}


@pytest.mark.parametrize("case", LORAS)
def test_there_and_back(tmp_path: Path, tiny: dict[str, GemmaConfig], case: str) -> None:
    lora, folded = LORAS[case]
    config = dataclasses.replace(tiny["gemma2"], num_layers=2)
    adapter = drawn(config, lora)
    remarks = write_adapter(tmp_path / "adapter.gguf", config, lora, adapter)
    assert bool(remarks) == bool(folded)
    assert not folded or remarks[0].startswith(f"the scale of {folded} matrices")
    read, back = read_adapter(tmp_path / "adapter.gguf", config)
    assert back.keys() == adapter.keys()
    found = products(read, back)
    for path, expected in products(lora, adapter).items():
        assert np.allclose(found[path], expected, rtol=1e-5, atol=1e-5), path
    if not folded:
        assert all(
            np.array_equal(back[path][key], pair[key])
            for path, pair in adapter.items() for key in ("a", "b")
        )  # fmt: skip
    if case == "usual":
        assert (read.rank, read.alpha) == (4, 8.0)


def test_the_library_reads_it(tmp_path: Path, tiny: dict[str, GemmaConfig]) -> None:
    from gguf import GGUFReader

    lora, config = Lora(rank=3, alpha=6.0, targets=("layers.1.attn.q",)), tiny["gemma3"]
    adapter = drawn(config, lora)
    write_adapter(tmp_path / "adapter.gguf", config, lora, adapter, "abc")
    reader = GGUFReader(tmp_path / "adapter.gguf")
    for key, value in {
        "general.architecture": "gemma3", "general.type": "adapter", "adapter.type": "lora",
        "adapter.lora.alpha": 6.0, gguf_lora.BASE_HASH: "abc",
    }.items():  # fmt: skip
        field = reader.get_field(key)
        assert field is not None and field.contents() == value
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert list(tensors) == ["blk.1.attn_q.weight.lora_a", "blk.1.attn_q.weight.lora_b"]
    a, b = tensors.values()
    assert (a.shape.tolist(), b.shape.tolist()) == ([24, 3], [3, 32])
    assert np.array_equal(a.data, adapter["layers.1.attn.q"]["a"])
    assert np.array_equal(b.data, adapter["layers.1.attn.q"]["b"].T)


def stranger(path: Path, config: GemmaConfig, **changes: Any) -> None:
    """An adapter of layer 0's query matrix as another program may have written it."""
    shapes = {"blk.0.attn_q.weight.lora_a": (2, 24), "blk.0.attn_q.weight.lora_b": (32, 2)}
    shapes |= changes.pop("shapes", {})
    metadata = {
        "general.architecture": "gemma", "general.type": "adapter", "adapter.type": "lora",
        "adapter.lora.alpha": 4.0, **changes,
    }  # fmt: skip
    tensors = {n: Stored(n, s, "float32", _ones(s)) for n, s in shapes.items() if s}
    half = dict.fromkeys(tensors, TYPES[1])
    write_file(path, {k: v for k, v in metadata.items() if v is not None}, tensors, half)


def _ones(shape: tuple[int, ...]) -> Callable[[], np.ndarray]:
    return lambda: np.ones(shape, np.float32)


def test_float16_of_another_program(tmp_path: Path, tiny: dict[str, GemmaConfig]) -> None:
    for name, alpha, scale in (("a", 4.0, 2.0), ("b", 0.0, 1.0), ("c", None, 1.0)):
        stranger(tmp_path / name, tiny["gemma1"], **{"adapter.lora.alpha": alpha})
        lora, adapter = read_adapter(tmp_path / name, tiny["gemma1"])
        assert lora.scale_of("layers.0.attn.q") == scale
        assert adapter["layers.0.attn.q"]["b"].dtype == jnp.float32


Q = "blk.0.attn_q.weight"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "architecture": ({"general.architecture": "gemma2"}, "architecture is 'gemma2'; expected 'ge"),
    "a model": ({"general.type": "model"}, "general.type is 'model'"),
    "another kind": ({"adapter.type": "ia3"}, "adapter.type is 'ia3'"),
    "alpha": ({"adapter.lora.alpha": -1.0}, "alpha is -1.0"),
    "alpha's type": ({"adapter.lora.alpha": "x"}, "alpha is 'x'"),
    "activated": ({"adapter.alora.invocation_tokens": [3]}, "activated LoRA"),
    "half a pair": ({"shapes": {f"{Q}.lora_b": ()}}, r"lora_a \[2, 24\] and lora_b None"),
    "other half": ({"shapes": {f"{Q}.lora_a": ()}}, r"lora_a None and lora_b \[32, 2\]"),
    "width": ({"shapes": {f"{Q}.lora_a": (2, 25)}}, r"lora_a \[2, 25\]"),
    "ranks": ({"shapes": {f"{Q}.lora_a": (3, 24)}}, r"expected \[rank, 24\] and \[32, rank\]"),
    "embedding": ({"shapes": {"token_embd.weight.lora_a": (2, 24)}}, "such as token_embd.weight"),
    "other layers": ({"shapes": {"blk.7.attn_q.weight.lora_a": (2, 24)}}, "1 tensors this model"),
    "nothing": ({"shapes": {f"{Q}.lora_a": (), f"{Q}.lora_b": ()}}, "no adapter matrix"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_adapters_that_do_not_belong(
    tmp_path: Path, tiny: dict[str, GemmaConfig], case: str
) -> None:
    changes, message = REFUSED[case]
    path = tmp_path / "adapter.gguf"
    stranger(path, tiny["gemma1"], **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_adapter(path, tiny["gemma1"])
    assert str(path) in str(caught.value)


def test_another_base(tmp_path: Path, tiny: dict[str, GemmaConfig]) -> None:
    path, config, lora = tmp_path / "adapter.gguf", tiny["gemma1"], Lora(rank=1)
    write_adapter(path, config, lora, drawn(config, lora), "1" * 64)
    assert read_adapter(path, config, "1" * 64)[0].rank == 1
    with pytest.raises(CheckpointError, match="hash 111111111111, this model has 222222222222"):
        read_adapter(path, config, "2" * 64)


def test_dora_and_an_empty_adapter_are_refused(
    tmp_path: Path, tiny: dict[str, GemmaConfig]
) -> None:
    config, lora = tiny["gemma1"], Lora(rank=1)
    adapter = drawn(config, lora)
    adapter["layers.1.attn.o"]["m"] = jnp.ones(24)
    with pytest.raises(ConfigError, match="layers.1.attn.o has a DoRA magnitude"):
        write_adapter(tmp_path / "adapter.gguf", config, lora, adapter)
    with pytest.raises(ConfigError, match="the adapter is empty"):
        write_adapter(tmp_path / "adapter.gguf", config, lora, {})
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_is_no_model(tmp_path: Path, tiny: dict[str, GemmaConfig]) -> None:
    path, config, lora = tmp_path / "adapter.gguf", tiny["gemma1"], Lora(rank=1)
    write_adapter(path, config, lora, drawn(config, lora))
    with pytest.raises(CheckpointError, match="this is an adapter: name its base model"):
        with opened(path):
            pass
