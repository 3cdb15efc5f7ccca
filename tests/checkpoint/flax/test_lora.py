"""Flax LoRA trees: read, written, the same updates there and back; what does not fit is refused."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax_trees
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from gemkit.adapt.lora import Adapter, Lora, init_adapter
from gemkit.checkpoint.adapters import compare, convert_adapter, recognise
from gemkit.checkpoint.adapters import write_adapter as write_any
from gemkit.checkpoint.flax.lora import read_adapter, write_adapter
from gemkit.checkpoint.load import load_checkpoint
from gemkit.errors import CheckpointError, ConfigError, GemkitError
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params, specs

Make = Callable[..., Params]
Tree = dict[str, Any]


def random_adapter(config: GemmaConfig, lora: Lora) -> Adapter:
    draw = np.random.default_rng(5)
    return {
        path: {"a": pair["a"], "b": jnp.asarray(draw.normal(size=pair["b"].shape), jnp.float32)}
        for path, pair in init_adapter(config, lora, seed=3).items()
    }


def theirs(config: GemmaConfig, rank: int = 3) -> Tree:
    """A tree as `gm.nn.LoRA` trains it: one `a` for the matrices of each fused array."""
    draw = np.random.default_rng(9)
    c = config
    heads, kv = (c.num_heads, c.head_dim), (2, c.num_kv_heads, c.head_dim)

    def lora(inside: tuple[int, ...], outside: tuple[int, ...]) -> Tree:
        shapes = {"a": (*inside, rank), "b": (rank, *outside)}
        return {
            "lora": {n: jnp.asarray(draw.normal(size=s), jnp.float32) for n, s in shapes.items()}
        }

    width, ffw = (c.hidden_size,), c.intermediate_size
    attention = {"attn_vec_einsum": (heads, width)}
    if c.num_heads == c.num_kv_heads:
        attention["qkv_einsum"] = (width, (3, *heads))
    else:
        attention |= {"q_einsum": (width, heads), "kv_einsum": (width, kv)}
    return {
        f"layer_{layer}": {
            "attn": {name: {"_LoRAEinsum_0": lora(*sizes)} for name, sizes in attention.items()},
            "mlp": {
                "_LoRAEinsum_gating_einsum": lora(width, (2, ffw)),
                "_LoRAEinsum_linear": lora((ffw,), width),
            },
        }
        for layer in range(c.num_layers)
    }


def update(adapter: Adapter, path: str) -> np.ndarray:
    pair = adapter[path]
    return np.asarray(pair["b"]).T @ np.asarray(pair["a"])


@pytest.fixture(params=["grouped", "fused"])
def config(tiny: dict[str, GemmaConfig], request: pytest.FixtureRequest) -> GemmaConfig:
    """With queries in an array of their own, or with keys and values."""
    config = tiny["gemma2"]
    fused = request.param == "fused"
    return dataclasses.replace(config, num_kv_heads=config.num_heads) if fused else config


def test_elements_of_theirs(tmp_path: Path, config: GemmaConfig) -> None:
    """x through a and then b, as the einsums there say, is the update of our matrix."""
    tree = theirs(config)
    flax_trees.save(tmp_path / "c", tree)
    lora, adapter = read_adapter(tmp_path / "c", config)
    linear = [path for path, spec in specs(config).items() if spec.linear]
    assert list(adapter) == linear and lora == Lora(3, targets=tuple(linear)) and lora.scale == 1

    attention, mlp = (tree["layer_1"][group] for group in ("attn", "mlp"))
    draw = np.random.default_rng(1)
    x = draw.normal(size=config.hidden_size)
    gates = mlp["_LoRAEinsum_gating_einsum"]["lora"]
    gated = np.einsum("F,Fr,rNH->NH", x, gates["a"], gates["b"])
    for number, name in enumerate(("mlp.gate", "mlp.up")):
        np.testing.assert_allclose(update(adapter, f"layers.1.{name}") @ x, gated[number], 1e-4)
    fused = "qkv_einsum" if "qkv_einsum" in attention else "kv_einsum"
    pair = attention[fused]["_LoRAEinsum_0"]["lora"]
    heads = np.einsum("D,Dr,rSNH->SNH", x, pair["a"], pair["b"])
    for number, name in enumerate("qkv"[-len(heads) :]):
        ours = update(adapter, f"layers.1.attn.{name}") @ x
        np.testing.assert_allclose(ours, heads[number].ravel(), 1e-4, 1e-4)
    encoded = draw.normal(size=(config.num_heads, config.head_dim))
    pair = attention["attn_vec_einsum"]["_LoRAEinsum_0"]["lora"]
    out = np.einsum("NH,NHr,rD->D", encoded, pair["a"], pair["b"])
    np.testing.assert_allclose(update(adapter, "layers.1.attn.o") @ encoded.ravel(), out, 1e-4)


@pytest.mark.parametrize(
    "lora",
    [
        Lora(rank=3),
        Lora(rank=2, alpha=5.0, targets=("q", "v")),
        Lora(rank=2, alpha=3.0, targets=("layers.1.mlp.up",)),
        Lora(rank=4, rslora=True, targets=("k", "down"), rank_pattern={"k": 2}),
    ],
)
def test_there_and_back(tmp_path: Path, config: GemmaConfig, lora: Lora) -> None:
    adapter = random_adapter(config, lora)
    remarks = write_any(tmp_path / "c", "flax", config, lora, adapter)
    assert recognise(tmp_path / "c") == "flax"
    read, back = read_adapter(tmp_path / "c", config)
    assert list(back) == list(adapter) and read.targets == tuple(adapter)
    for path, pair in back.items():
        assert np.array_equal(pair["a"], adapter[path]["a"])
        assert pair["b"].shape == adapter[path]["b"].shape
        np.testing.assert_allclose(pair["b"], lora.scale_of(path) * adapter[path]["b"], 1e-6)
    assert f"difference of {len(adapter)} update" in remarks[-1] or "equal to the" in remarks[-1]


def test_theirs_survives_being_ours(tmp_path: Path, config: GemmaConfig) -> None:
    """A shared `a` is found again: the rank does not grow."""
    tree = theirs(config)
    flax_trees.save(tmp_path / "theirs", tree)
    result = convert_adapter(tmp_path / "theirs", tmp_path / "ours", "flax", config)
    assert result.parity.difference == 0
    with ocp.StandardCheckpointer() as checkpointer:
        back = checkpointer.restore(tmp_path / "ours")
    flat = flax_trees.flat(tree, "")
    assert flax_trees.flat(back, "").keys() == flat.keys()
    for key, leaves in flax_trees.flat(back, "").items():
        for name, leaf in leaves.items():
            assert np.array_equal(leaf, flat[key][name]), key


def test_a_fresh_adapter_stays_trainable(tmp_path: Path, tiny: dict[str, GemmaConfig]) -> None:
    """With b all zero nothing is dropped."""
    config = tiny["gemma1"]
    tree = theirs(config)
    for layer in tree.values():
        for module in layer["attn"].values():
            module["_LoRAEinsum_0"]["lora"]["b"] *= 0
    flax_trees.save(tmp_path / "c", tree)
    _, adapter = read_adapter(tmp_path / "c", config)
    assert adapter["layers.0.attn.k"]["a"].shape == (3, config.hidden_size)
    assert len(adapter) == 7 * config.num_layers


def test_an_adapter_beside_its_base(
    tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make
) -> None:
    config = tiny["gemma2"]
    base = flax_trees.nested(config, weights(config))
    tree = theirs(config)
    for layer, groups in tree.items():
        for name, module in groups["attn"].items():
            base[layer]["attn"][name] |= module
        base[layer]["mlp"] |= groups["mlp"]
    for name, saved in (("both", base), ("alone", tree), ("run", {"params": base})):
        flax_trees.save(tmp_path / name, saved)
        read = read_adapter(tmp_path / name, config)
        assert compare(read, read_adapter(tmp_path / "both", config)).difference == 0
    with pytest.raises(CheckpointError, match="holds the matrices of a LoRA adapter"):
        load_checkpoint(tmp_path / "both")


def damaged(change: Callable[[Tree], None], folder: Path, config: GemmaConfig) -> str:
    tree = theirs(config)
    change(tree)
    flax_trees.save(folder, tree)
    with pytest.raises(GemkitError) as caught:
        read_adapter(folder, config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_fit(tmp_path: Path, tiny: dict[str, GemmaConfig]) -> None:
    config = tiny["gemma3"]
    query = "_LoRAEinsum_0"

    def lora(tree: Tree) -> Tree:
        return tree["layer_0"]["attn"]["q_einsum"][query]["lora"]

    cases: dict[str, Callable[[Tree], Any]] = {
        r"layer_0/attn/q_einsum has lora b alone": lambda t: lora(t).pop("a"),
        r"is float32[4, 24, 8]": lambda t: lora(t).update(a=jnp.zeros((4, 24, 8))),
        r"is int32[3, 4, 8]": lambda t: lora(t).update(b=jnp.zeros((3, 4, 8), jnp.int32)),
        r"4 LoRA matrices this model has no place for, such as layer_7.mlp": lambda t: t.update(
            layer_7={"mlp": t["layer_0"]["mlp"]}
        ),
        r"2 LoRA matrices this model has no place for, such as vision": lambda t: t.update(
            vision_encoder={"lora": lora(t)}
        ),
        r"such as layer_0.attn.qkv_einsum": lambda t: t["layer_0"]["attn"].update(
            qkv_einsum=t["layer_0"]["attn"].pop("q_einsum")
        ),
    }
    for number, (said, change) in enumerate(cases.items()):
        assert said in damaged(change, tmp_path / str(number), config)


def test_no_adapter(tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make) -> None:
    config = tiny["gemma1"]
    flax_trees.save(tmp_path / "base", flax_trees.nested(config, weights(config)))
    zeros = theirs(config)
    zeros = {k: {"attn": {}, "mlp": v["mlp"]} for k, v in zeros.items()}
    for layer in zeros.values():
        for module in layer["mlp"].values():
            module["lora"] = {name: 0 * leaf for name, leaf in module["lora"].items()}
    flax_trees.save(tmp_path / "zeros", zeros)
    (tmp_path / "empty").mkdir()
    for name, said in (
        ("base", "holds no LoRA matrices"),
        ("zeros", "every LoRA matrix is zero"),
        ("empty", "holds nothing that Orbax saved"),
    ):
        with pytest.raises(CheckpointError, match=said):
            read_adapter(tmp_path / name, config)


def test_dora_cannot_be_said(tmp_path: Path, tiny: dict[str, GemmaConfig]) -> None:
    config = tiny["gemma1"]
    lora = Lora(rank=2, targets=("q",))
    adapter = random_adapter(config, lora)
    for pair in adapter.values():
        pair["m"] = jnp.ones(pair["b"].shape[1])
    with pytest.raises(ConfigError, match="cannot say DoRA's magnitudes"):
        write_adapter(tmp_path, config, lora, adapter)
    assert list(tmp_path.iterdir()) == []
