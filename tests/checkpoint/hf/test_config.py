"""config.json ↔ GemmaConfig."""

import dataclasses
import json
from typing import Any

import pytest

from gemkit.checkpoint.hf.config import read_config, shortest_pattern, write_config
from gemkit.errors import ConfigError
from gemkit.model import variants
from gemkit.model.config import GemmaConfig

GEMMA_2B = {
    "architectures": ["GemmaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": 2, "eos_token_id": 1, "head_dim": 256, "hidden_act": "gelu",
    "hidden_activation": None, "hidden_size": 2048, "initializer_range": 0.02,
    "intermediate_size": 16384, "max_position_embeddings": 8192, "model_type": "gemma",
    "num_attention_heads": 8, "num_hidden_layers": 18, "num_key_value_heads": 1,
    "pad_token_id": 0, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 10000.0,
    "torch_dtype": "bfloat16", "transformers_version": "4.38.1", "use_cache": True,
    "vocab_size": 256000,
}  # fmt: skip
GEMMA2_2B = {
    "model_type": "gemma2", "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
    "cache_implementation": "hybrid", "eos_token_id": [1, 107], "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 2304, "intermediate_size": 9216, "max_position_embeddings": 8192,
    "num_attention_heads": 8, "num_hidden_layers": 26, "num_key_value_heads": 4,
    "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_theta": 10000.0,
    "sliding_window": 4096, "vocab_size": 256000,
}  # fmt: skip
GEMMA3_1B = {
    "model_type": "gemma3_text", "attn_logit_softcapping": None, "head_dim": 256,
    "final_logit_softcapping": None, "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 1152, "intermediate_size": 6912, "max_position_embeddings": 32768,
    "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1,
    "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000,
    "rope_scaling": None, "rope_theta": 1000000, "sliding_window": 512,
    "sliding_window_pattern": 6, "vocab_size": 262144,
}  # fmt: skip
GEMMA3_4B = {
    "model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"],
    "boi_token_index": 255999, "eoi_token_index": 256000, "image_token_index": 262144,
    "mm_tokens_per_image": 256, "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27},
    "text_config": {
        "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
        "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
}  # fmt: skip
NESTED_ROPES = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}


def changed(base: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """A copy with other settings, inside text_config where there is one."""
    copy = json.loads(json.dumps(base))
    copy.get("text_config", copy).update(settings)
    return copy


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (GEMMA_2B, variants.GEMMA_2B),
        (GEMMA2_2B, variants.GEMMA2_2B),
        (GEMMA3_1B, variants.GEMMA3_1B),
        (GEMMA3_4B, dataclasses.replace(variants.GEMMA3_4B, vocab_size=262_208)),
    ],
    ids=["gemma", "gemma2", "gemma3_text", "gemma3"],
)
def test_published_files(raw: dict[str, Any], expected: GemmaConfig) -> None:
    assert read_config(raw) == expected


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_variants_survive_writing_and_reading(name: str) -> None:
    published = variants.VARIANTS[name].config
    written = json.loads(json.dumps(write_config(published, "bfloat16", "0")))
    assert read_config(written) == published


def test_tiny_models_survive_writing_and_reading(config: GemmaConfig) -> None:
    written = json.loads(json.dumps(write_config(config, "float32", "0")))
    back = read_config(written)
    assert back == dataclasses.replace(config, query_scale=back.query_scale)
    assert back.query_scale == pytest.approx(config.query_scale, rel=1e-12)


def test_the_query_scalar_is_what_the_file_says() -> None:
    """Early uploads of Gemma 2 9B said 224 where 256 was meant."""
    assert read_config(changed(GEMMA2_2B, query_pre_attn_scalar=224)).query_scale == 224**-0.5


def test_newer_rope_settings_mean_the_same() -> None:
    flat = changed(GEMMA_2B, rope_parameters={"rope_type": "default", "rope_theta": 5e5})
    del flat["rope_theta"]
    assert read_config(flat).rope_theta == 5e5
    nested = changed(GEMMA3_4B, rope_parameters=NESTED_ROPES, rope_scaling=None)
    assert read_config(nested) == read_config(GEMMA3_4B)


def test_gemma_1_positions_may_be_scaled() -> None:
    scaled = changed(GEMMA_2B, rope_scaling={"type": "linear", "factor": 4.0})
    assert read_config(scaled).rope_scale == 4.0


def test_layer_types_win_over_the_pattern() -> None:
    types = ["full_attention", "sliding_attention"] * 13
    assert read_config(changed(GEMMA3_1B, layer_types=types)).attention_pattern == (
        "global", "local",
    )  # fmt: skip
    every_third = read_config(changed(GEMMA3_1B, sliding_window_pattern=3))
    assert every_third.attention_pattern == ("local", "local", "global")


def test_few_layers_keep_the_usual_pattern() -> None:
    usual = ("local",) * 5 + ("global",)
    assert shortest_pattern(("local",) * 3, usual) == usual
    assert shortest_pattern(("global", "local", "global", "local"), usual) == ("global", "local")
    assert shortest_pattern(("global", "local", "local"), usual) == ("global", "local", "local")


def test_gemma_3_attention_is_not_capped() -> None:
    """transformers reads the setting and never applies it."""
    assert read_config(changed(GEMMA3_1B, attn_logit_softcapping=50.0)).attn_logit_softcap is None
    assert read_config(changed(GEMMA2_2B, attn_logit_softcapping=None)).attn_logit_softcap is None


@pytest.mark.parametrize(
    "settings",
    [
        {"use_cache": False, "top_k": 50, "unsloth_version": "2025.1"},
        {"some_future_switch": None, "another": False, "pruned_heads": {}},
        {"hidden_activation": None},
        {"tie_word_embeddings": True},
    ],
)
def test_harmless_settings_are_ignored(settings: dict[str, Any]) -> None:
    assert read_config(changed(GEMMA2_2B, **settings)) == variants.GEMMA2_2B


@pytest.mark.parametrize(
    ("base", "settings", "said"),
    [
        (GEMMA_2B, {"model_type": "llama"}, "model_type is 'llama'"),
        (GEMMA_2B, {"model_type": ["gemma"]}, "model_type is ['gemma']"),
        (GEMMA3_4B, {"model_type": "llama"}, "model_type is 'llama'"),
        (GEMMA_2B, {"attention_bias": True}, "attention_bias is true"),
        (GEMMA_2B, {"tie_word_embeddings": False}, "tie_word_embeddings is false"),
        (GEMMA_2B, {"quantization_config": {"bits": 4}}, 'quantization_config is {"bits": 4}'),
        (GEMMA2_2B, {"hidden_activation": "relu"}, 'hidden_activation is "relu"'),
        (GEMMA3_1B, {"use_bidirectional_attention": True}, "use_bidirectional_attention is true"),
        (GEMMA3_1B, {"future_mechanism": 7}, "future_mechanism is 7"),
        (GEMMA_2B, {"rope_scaling": {"type": "yarn", "factor": 2.0}}, 'type is "yarn"'),
        (GEMMA_2B, {"rope_scaling": {"rope_type": "linear"}}, "factor is null"),
        (GEMMA2_2B, {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling is"),
        (GEMMA3_1B, {"rope_parameters": {"rope_theta": 1e6}}, "rope_parameters is"),
        (
            GEMMA3_1B,
            {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
            "sliding_attention is",
        ),
        (GEMMA3_1B, {"layer_types": ["full_attention"]}, "layer_types is"),
        (GEMMA3_1B, {"layer_types": ["chunked_attention"] * 26}, "layer_types is"),
        (GEMMA3_1B, {"layer_types": [{}] + ["full_attention"] * 25}, "layer_types is"),
        (GEMMA3_1B, {"layer_types": [[]] * 26}, "layer_types is"),
        (GEMMA3_1B, {"sliding_window": None}, "sliding_window is null"),
        (GEMMA_2B, {"hidden_size": "2048"}, 'hidden_size is "2048"'),
        (GEMMA_2B, {"hidden_size": True}, "hidden_size is true"),
        (GEMMA_2B, {"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        (GEMMA_2B, {"num_key_value_heads": 3}, "num_heads 8 is no multiple"),
        (GEMMA_2B, {"rope_theta": -1}, "rope_theta is -1"),
    ],
)
def test_settings_that_change_the_result_are_refused(
    base: dict[str, Any], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(changed(base, **settings), "folder/config.json")
    message = str(caught.value)
    assert said in message and message.startswith("folder/config.json") and "\n" not in message


@pytest.mark.parametrize(
    ("base", "settings", "said"),
    [
        (variants.GEMMA_2B, {"final_logit_softcap": 30.0}, "gemma cannot express final_logit"),
        (variants.GEMMA_2B, {"query_scale": 0.1}, "gemma cannot express query_scale 0.1"),
        (variants.GEMMA_2B, {"qk_norm": True}, "gemma cannot express qk_norm"),
        (variants.GEMMA2_2B, {"rope_scale": 8.0}, "gemma2 cannot express rope_scale 8.0"),
        (variants.GEMMA2_2B, {"rope_local_theta": 5.0}, "cannot express rope_local_theta"),
        (variants.GEMMA3_1B, {"attn_logit_softcap": 50.0}, "gemma3_text cannot express attn"),
    ],
)
def test_what_transformers_cannot_compute_is_not_written(
    base: GemmaConfig, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        write_config(dataclasses.replace(base, **settings), "float32", "0")
