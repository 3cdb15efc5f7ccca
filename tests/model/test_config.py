"""Configurations: contradictions are named, kinds and windows follow the pattern."""

import dataclasses
import json
from typing import Any

import pytest
from tiny import GEMMA1, GEMMA2, GEMMA3

from gemkit.errors import ConfigError
from gemkit.model.config import GemmaConfig

WRONG: dict[str, dict[str, Any]] = {
    "num_layers is 0": {"num_layers": 0},
    "hidden_size is -1": {"hidden_size": -1},
    "intermediate_size is 0": {"intermediate_size": 0},
    "vocab_size is 0": {"vocab_size": 0},
    "max_positions is 0": {"max_positions": 0},
    "query_scale is 0.0": {"query_scale": 0.0},
    "rope_theta is 0": {"rope_theta": 0},
    "rope_local_theta is -1.0": {"rope_local_theta": -1.0},
    "rope_scale is 0.0": {"rope_scale": 0.0},
    "num_heads 4 is no multiple of num_kv_heads 3": {"num_kv_heads": 3},
    "head_dim 7 is odd": {"head_dim": 7},
    "attention_pattern () is not made of": {"attention_pattern": ()},
    "attention_pattern ('sliding',) is not made of": {"attention_pattern": ("sliding",)},
    "local layers but sliding_window is None": {"attention_pattern": ("local", "global")},
    "local layers but sliding_window is 0": {
        "attention_pattern": ("local",), "sliding_window": 0,
    },
    "attn_logit_softcap is 0.0": {"attn_logit_softcap": 0.0},
    "final_logit_softcap is -30.0": {"final_logit_softcap": -30.0},
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_contradictions_are_named(message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        dataclasses.replace(GEMMA1, **WRONG[message])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_contradictions_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"num_kv_heads 3; head_dim 7 .*; final_logit_softcap"):
        dataclasses.replace(GEMMA1, num_kv_heads=3, head_dim=7, final_logit_softcap=-1.0)


def test_kinds_repeat_the_pattern_over_the_layers() -> None:
    assert GEMMA1.layer_kinds == ("global", "global")
    assert GEMMA2.layer_kinds == ("local", "global", "local")
    assert GEMMA3.layer_kinds == ("local", "local", "global")
    assert (GEMMA2.window("local"), GEMMA2.window("global")) == (5, None)


def test_fields_survive_json() -> None:
    fields = json.loads(json.dumps(GEMMA3.to_dict()))
    assert fields["attention_pattern"] == ["local", "local", "global"]
    fields["attention_pattern"] = tuple(fields["attention_pattern"])
    assert GemmaConfig(**fields) == GEMMA3
