"""Metadata ↔ configuration: every published model, what llama.cpp implies, what it cannot run."""

import dataclasses
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemkit.checkpoint.gguf.config import config_metadata, read_config
from gemkit.checkpoint.gguf.header import Header, read_header
from gemkit.errors import ConfigError
from gemkit.model.config import GemmaConfig
from gemkit.model.variants import VARIANTS

CONFIGS = {variant.config: name for name, variant in VARIANTS.items()}
Write = Callable[[dict[str, Any]], Header]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A file of metadata only, read back."""

    def make(metadata: dict[str, Any]) -> Header:
        from gemkit.checkpoint.gguf.weights import write_file

        write_file(tmp_path / "model.gguf", metadata, {}, {})
        return read_header(tmp_path / "model.gguf")

    return make


@pytest.mark.parametrize("config", CONFIGS, ids=CONFIGS.values())
def test_published_models_come_back(config: GemmaConfig, write: Write) -> None:
    assert read_config(write(config_metadata(config)), 0) == config


def test_what_tiny_models_say_comes_back(tiny: dict[str, GemmaConfig], write: Write) -> None:
    for name, changes in {
        "gemma1": {"rope_theta": 30_000.0, "rope_scale": 8.0, "norm_eps": 0.01},
        "gemma2": {"attn_logit_softcap": 2.5, "final_logit_softcap": 8.0, "rope_theta": 10_000.0},
        "gemma3": {"final_logit_softcap": 5.0, "rope_local_theta": 9_000.0, "sliding_window": 7},
    }.items():
        config = dataclasses.replace(tiny[name], **changes)
        assert read_config(write(config_metadata(config)), 0) == config


def test_gemma3_without_local_layers(tiny: dict[str, GemmaConfig], write: Write) -> None:
    config = dataclasses.replace(
        tiny["gemma3"], attention_pattern=("global",), sliding_window=None
    )
    metadata = config_metadata(config)
    assert "gemma3.attention.sliding_window" not in metadata
    assert read_config(write(metadata), 0) == config


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "27b scale in few layers": ("gemma2_27b", {}, "query_scale is 0.408.*0.353.*2 layers"),
    "own scale": ("gemma1", {"query_scale": 0.3}, "query_scale is 0.3"),
    "usual scale in 46 layers": ("gemma2", {"num_layers": 46}, "0.408.*gemma2 with 46 layers"),
    "order of layers": (
        "gemma3", {"attention_pattern": ("local", "global")}, "attention_pattern is .*implies",
    ),
    "local layers": (
        "gemma1", {"attention_pattern": ("local",), "sliding_window": 4}, "attention_pattern",
    ),
    "all global": ("gemma2", {"attention_pattern": ("global",)}, "attention_pattern"),
    "cap of gemma3": ("gemma3", {"attn_logit_softcap": 50.0}, "attn_logit_softcap is 50.0"),
    "no cap of gemma2": ("gemma2", {"attn_logit_softcap": None}, "attn_logit_softcap is None"),
    "no final cap": ("gemma2", {"final_logit_softcap": None}, "final_logit_softcap is None"),
    "cap of gemma": ("gemma1", {"final_logit_softcap": 30.0}, "final_logit_softcap is 30.0"),
    "scaled positions": ("gemma2", {"rope_scale": 8.0}, "rope_scale is 8.0"),
    "two bases": ("gemma2", {"rope_theta": 1e6}, "rope_local_theta is 10000.0"),
    "norms": ("gemma1", {"qk_norm": True}, "query and key norms and no post norms"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_models_llama_cpp_would_run_as_others(tiny: dict[str, GemmaConfig], case: str) -> None:
    name, changes, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message):
        config_metadata(dataclasses.replace(tiny[name], **changes))


def header(architecture: str, arrays: dict[str, Any] | None = None, **changes: Any) -> Header:
    """What a file with the least settings says, and `changes`; None takes one away."""
    values = {
        "block_count": 4, "embedding_length": 24, "feed_forward_length": 40, "context_length": 64,
        "attention.head_count": 4, "attention.head_count_kv": 2, "attention.key_length": 8,
        "attention.value_length": 8, "attention.layer_norm_rms_epsilon": float(np.float32(1e-6)),
        **changes,
    }  # fmt: skip
    named = {f"{architecture}.{key}": value for key, value in values.items() if value is not None}
    found = Header(
        Path("model.gguf"), {"general.architecture": architecture, **named}, {}, {},
        mmap.mmap(-1, 1),
    )  # fmt: skip
    if arrays:
        object.__setattr__(found, "arrays", dict.fromkeys(arrays))
        object.__setattr__(found, "numbers", lambda key: arrays.get(key))
    return found


def test_what_a_silent_file_means() -> None:
    """llama.cpp's defaults."""
    one = read_config(header("gemma"), 320)
    assert (one.vocab_size, one.query_scale, one.norm_eps) == (320, 8**-0.5, 1e-6)
    assert (one.attention_pattern, one.rope_theta, one.rope_scale) == (("global",), 10_000.0, 1.0)
    two = read_config(header("gemma2"), 320)
    assert (two.attn_logit_softcap, two.final_logit_softcap) == (50.0, 30.0)
    assert (two.attention_pattern, two.sliding_window) == (("local", "global"), 4096)
    three = read_config(header("gemma3"), 320)
    assert (three.attention_pattern, three.final_logit_softcap) == (("global",), None)
    local = read_config(header("gemma3", **{"attention.sliding_window": 512}), 320)
    assert local.attention_pattern == ("local",) * 5 + ("global",)
    assert (local.sliding_window, local.rope_local_theta) == (512, 10_000.0)
    assert read_config(header("gemma", vocab_size=400), 320).vocab_size == 400


WINDOW = {"attention.sliding_window": 16}
PATTERN = "attention.sliding_window_pattern"


@pytest.mark.parametrize(
    ("period", "pattern"),
    [(3, ("local", "local", "global")), (1, ("global",)), (0, ("local",))],
)
def test_a_period_in_the_file_counts(period: int, pattern: tuple[str, ...]) -> None:
    found = read_config(header("gemma3", **WINDOW, **{PATTERN: period}), 320)
    assert found.attention_pattern == pattern


def test_flags_of_each_layer_count() -> None:
    flags = {f"gemma3.{PATTERN}": np.array([True, False, True, False])}
    found = read_config(header("gemma3", flags, **WINDOW), 320)
    assert found.attention_pattern == ("local", "global")
    with pytest.raises(ConfigError, match="2 entries; expected 4"):
        read_config(header("gemma3", {f"gemma3.{PATTERN}": flags.popitem()[1][:2]}, **WINDOW), 320)


def test_scaled_positions() -> None:
    linear = {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0}
    assert read_config(header("gemma3", **linear), 320).rope_scale == 8.0
    none = {**linear, "rope.scaling.type": "none"}
    assert read_config(header("gemma3", **none), 320).rope_scale == 1.0
    assert read_config(header("gemma", **{"rope.scale_linear": 4.0}), 320).rope_scale == 4.0


@pytest.mark.parametrize(("arch", "layers"), [("gemma2", 46), ("gemma3", 62)])
def test_the_27b_models_divide_by_their_width(arch: str, layers: int) -> None:
    assert read_config(header(arch, block_count=layers), 320).query_scale == 6**-0.5


ODD: dict[str, tuple[str, dict[str, Any], str]] = {
    "architecture": ("llama", {}, "general.architecture is 'llama'"),
    "no layers": ("gemma", {"block_count": 0}, "block_count is 0"),
    "too many layers": ("gemma", {"block_count": 2**32 - 1}, "block_count is 4294967295"),
    "missing size": ("gemma", {"feed_forward_length": None}, "feed_forward_length is null"),
    "text for a number": ("gemma", {"embedding_length": "x" * 999}, "embedding_length is \"xxx"),
    "heads": ("gemma", {"attention.head_count_kv": 3}, "no multiple of num_kv_heads"),
    "value length": ("gemma", {"attention.value_length": 16}, "attention.value_length is 16"),
    "rotated part": ("gemma", {"rope.dimension_count": 4}, "rope.dimension_count is 4"),
    "epsilon": ("gemma", {"attention.layer_norm_rms_epsilon": float("nan")}, "NaN"),
    "endless base": ("gemma", {"rope.freq_base": 1e300}, "rope.freq_base is Infinity"),
    "yarn": ("gemma3", {"rope.scaling.type": "yarn"}, "rope.scaling.type is \"yarn\""),
    "no cap": ("gemma2", {"attn_logit_softcapping": 0.0}, "attn_logit_softcapping is 0.0"),
    "cap": ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is 50.0"),
    "window": ("gemma2", {"attention.sliding_window": 0}, "sliding_window is 0"),
    "scaled": ("gemma2", {"rope.scaling.factor": 8.0}, "rope.scaling.factor is 8.0"),
    "embedding model": ("gemma3", {"attention.causal": False}, "attention.causal is false"),
    "experts": ("gemma3", {"expert_count": 8}, "expert_count is 8"),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_odd_files(case: str) -> None:
    arch, changes, message = ODD[case]
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(header(arch, **changes), 320)
    assert "model.gguf" in str(caught.value) and len(str(caught.value)) < 400


def test_an_array_where_one_value_belongs() -> None:
    with pytest.raises(ConfigError, match="attention.head_count_kv is an array"):
        read_config(header("gemma", {"gemma.attention.head_count_kv": None}), 320)


def test_vision_settings_are_left_alone() -> None:
    settings = {"vision.block_count": 27, "mm.tokens_per_image": 256}
    assert read_config(header("gemma3", **settings), 320).num_layers == 4
