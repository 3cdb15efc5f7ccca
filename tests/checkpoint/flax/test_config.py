"""Which model a Flax checkpoint is: from its shapes, or from what gemkit wrote beside them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from gemkit.checkpoint.flax.config import (
    embedding_rows,
    gates_by_width,
    read_config,
    recognise_config,
    unsaid,
    write_config,
)  # fmt: skip
from gemkit.checkpoint.names import cells, stored_shape
from gemkit.errors import CheckpointError, ConfigError, GemkitError
from gemkit.model import variants
from gemkit.model.config import GemmaConfig
from gemkit.model.variants import VARIANTS
from gemkit.model.weights import specs

Shapes = dict[str, tuple[int, ...]]
WHERE = Path("there")


def shapes(config: GemmaConfig) -> Shapes:
    table = specs(config)
    found = {
        cell.name: stored_shape(cell.layout, table[path].shape, config.head_dim)
        for path, cell in cells(config, "flax").items()
    }
    return found | {"embedder/input_embedding": (embedding_rows(config), config.hidden_size)}


@pytest.mark.parametrize("name", VARIANTS)
def test_published_models_are_recognised(name: str) -> None:
    config = VARIANTS[name].config
    found = shapes(config)
    assert recognise_config(found, WHERE) == config
    assert found["embedder/input_embedding"][0] == (262_144 if config.qk_norm else 256_128)
    assert unsaid(config, found) == ()


def test_which_models_have_gates_by_width() -> None:
    """As `transpose_gating_einsum` in gm/nn/_gemma.py and the 2024 checkpoints of Gemma 1."""
    by_width = {
        name for name in dir(variants) if name.startswith("GEMMA")
        for config in [getattr(variants, name)]
        if gates_by_width(config.post_norms, config.qk_norm, config.hidden_size)
    }  # fmt: skip
    assert by_width == {"GEMMA_2B", "GEMMA_7B", "GEMMA2_2B"}


@pytest.mark.parametrize(
    ("like", "changes", "expected"),
    [
        ("GEMMA_2B", {"num_layers": 4}, {"attention_pattern": ("global",)}),
        ("GEMMA2_9B", {"num_layers": 40, "head_dim": 64}, {"query_scale": 64**-0.5}),
        ("GEMMA2_27B", {"num_layers": 45}, {"query_scale": 144**-0.5, "sliding_window": 4096}),
        ("GEMMA3_1B", {"num_layers": 20}, {"sliding_window": 512, "rope_scale": 1.0}),
        ("GEMMA3_4B", {"vocab_size": 262_208}, {"sliding_window": 1024, "rope_scale": 8.0}),
        ("GEMMA3_27B", {"num_layers": 60}, {"query_scale": 168**-0.5, "qk_norm": True}),
    ],
)
def test_other_shapes_take_after_the_nearest(
    like: str, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    config = dataclasses.replace(getattr(variants, like), **changes)
    guess = recognise_config(shapes(config), WHERE)
    assert guess == dataclasses.replace(config, **expected)


def test_what_no_shape_shows(tiny: dict[str, GemmaConfig]) -> None:
    config = dataclasses.replace(tiny["gemma2_27b"], norm_eps=0.1)
    (remark,) = unsaid(config, shapes(config))
    assert "query_scale, sliding_window, norm_eps: no shape shows it" in remark
    strange = dataclasses.replace(tiny["gemma3"], post_norms=False)
    (remark,) = unsaid(strange, shapes(strange))
    assert remark == "only gemkit_config.json says what model this is"
    with pytest.raises(ConfigError, match="there has norms of queries and keys, but none after"):
        recognise_config(shapes(strange), WHERE)


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("layer_0/mlp/linear", None, "there has no layer_0/mlp/linear"),
        ("layer_0/mlp/linear", (3,), r"layer_0/mlp/linear of shape \[3\]; expected an array of 2"),
        ("layer_0/attn/kv_einsum/w#0", (), r"kv_einsum/w#0 of shape \[\]"),
        ("layer_0/attn/kv_einsum/w#0", (3, 24, 8), "num_heads 4 is no multiple of num_kv_heads 3"),
        ("layer_0/attn/attn_vec_einsum/w", (4, 2**40, 24), r"head_dim is 1099511627776"),
        ("layer_0/attn/attn_vec_einsum/w", (0, 8, 24), "num_heads is 0"),
        ("embedder/input_embedding", (2**30, 24), "vocab_size is"),
        ("layer_99999/pre_ffw_norm/scale", (24,), "num_layers is 100000; expected from 1 to 1000"),
    ],
)
def test_impossible_shapes(
    tiny: dict[str, GemmaConfig], name: str, shape: tuple[int, ...] | None, said: str
) -> None:
    found = shapes(tiny["gemma1"])
    found.pop(name, None)
    with pytest.raises((CheckpointError, ConfigError), match=said):
        recognise_config(found if shape is None else found | {name: shape}, WHERE)


def test_written_and_read(tmp_path: Path, config: GemmaConfig) -> None:
    config = dataclasses.replace(config, norm_eps=3e-6, query_scale=0.123456789012345)
    write_config(tmp_path / "c.json", config)
    assert read_config(tmp_path / "c.json") == config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_layers", 0), ("num_layers", 10**9), ("num_layers", True), ("head_dim", "8"),
        ("vocab_size", 1.5), ("query_scale", None), ("norm_eps", -1), ("rope_theta", 1e99),
        ("attn_logit_softcap", "50"), ("qk_norm", 1), ("attention_pattern", []),
        ("attention_pattern", "global"), ("attention_pattern", ["wide"]),
        ("attention_pattern", [[]]), ("attention_pattern", ["local"] * 2000),
        ("sliding_window", 0), ("sliding_window", {}), ("num_kv_heads", 3), ("head_dim", 7),
    ],
)  # fmt: skip
def test_damaged_settings(
    tmp_path: Path, tiny: dict[str, GemmaConfig], key: str, value: Any
) -> None:
    described = tiny["gemma2"].to_dict() | {key: value}
    (tmp_path / "c.json").write_text(json.dumps(described))
    with pytest.raises(GemkitError) as caught:
        read_config(tmp_path / "c.json")
    assert key in str(caught.value) and "\n" not in str(caught.value)
