"""adapter_config.json: which modules it means, and what in it gemkit refuses."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from gemkit.checkpoint.peft.config import PLAIN, PeftConfig, read_config
from gemkit.errors import ConfigError, GemkitError

KINDS = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip
NAMES = [f"model.layers.{layer}.{kind}" for layer in range(12) for kind in KINDS]


def config(tmp_path: Path, **settings: Any) -> PeftConfig:
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({"peft_type": "LORA", **settings}))
    return read_config(path)


def of_layers(layers: Any, *kinds: str) -> list[str]:
    return [name for name in NAMES
            if int(name.split(".")[2]) in layers and name.rsplit(".")[-1] in kinds]  # fmt: skip


EVERY = range(12)
TARGETS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, of_layers(EVERY, "q_proj", "v_proj")),
    ({"target_modules": None}, of_layers(EVERY, "q_proj", "v_proj")),
    ({"target_modules": ["up_proj", "lm_head"]}, of_layers(EVERY, "up_proj")),
    ({"target_modules": ["mlp.up_proj"]}, of_layers(EVERY, "up_proj")),
    ({"target_modules": ["proj", "layers.1"]}, []),
    ({"target_modules": ["model.layers.1.self_attn.q_proj"]}, of_layers([1], "q_proj")),
    ({"target_modules": "all-linear"}, NAMES),
    ({"target_modules": "All-Linear"}, NAMES),
    ({"target_modules": r".*\.(q|v)_proj"}, of_layers(EVERY, "q_proj", "v_proj")),
    ({"target_modules": r"model\.layers\.1\d\..*up_proj"}, of_layers([10, 11], "up_proj")),
    ({"target_modules": "q_proj"}, []),  # a string is an expression for the whole name
    ({"target_modules": ["q_proj"], "layers_to_transform": 3}, of_layers([3], "q_proj")),
    ({"target_modules": ["q_proj"], "layers_to_transform": [1, 11]}, of_layers([1, 11], "q_proj")),
    ({"target_modules": ["q_proj"], "layers_to_transform": []}, of_layers(EVERY, "q_proj")),
    ({"target_modules": ["q_proj"], "layers_to_transform": [2], "layers_pattern": "layers"},
     of_layers([2], "q_proj")),
    ({"target_modules": ["q_proj", "k_proj"], "exclude_modules": ["k_proj"]},
     of_layers(EVERY, "q_proj")),
    ({"target_modules": "all-linear", "exclude_modules": r".*\.mlp\..*|.*\.[0-9]\..*"},
     of_layers([10, 11], "q_proj", "k_proj", "v_proj", "o_proj")),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "expected"), TARGETS, ids=lambda x: str(x)[:60])
def test_targets(tmp_path: Path, settings: dict[str, Any], expected: list[str]) -> None:
    assert config(tmp_path, **settings).targets(NAMES) == expected


def test_defaults_are_those_of_peft(tmp_path: Path) -> None:
    found = config(tmp_path)
    assert (found.rank, found.alpha, found.dropout, found.rslora, found.dora) == (
        8, 8.0, 0.0, False, False,
    )  # fmt: skip
    assert found.base_hash is None


def test_patterns_go_by_order(tmp_path: Path) -> None:
    found = config(
        tmp_path, rank_pattern={"layers.1.self_attn.q_proj": 2, "q_proj": 4, ".*_proj": 5},
        alpha_pattern={"up_proj|down_proj": 0.5},
    )  # fmt: skip
    names = [NAMES[0], NAMES[7], NAMES[5], NAMES[70]]
    assert found.ranks(names) == [4, 2, 5, 4]
    assert found.alphas(names) == [8.0, 8.0, 0.5, 8.0]


@pytest.mark.parametrize("key", PLAIN)
def test_the_table_of_what_is_refused(tmp_path: Path, key: str) -> None:
    for plain in PLAIN[key]:
        config(tmp_path, **{key: plain})
    if key != "peft_type":
        config(tmp_path, **{key: None})
    for odd in ("olora", ["x"], {"x": 1}, 7):
        with pytest.raises(ConfigError, match=f"{key} is .*merge it with PEFT"):
            config(tmp_path, **{key: odd})


@pytest.mark.parametrize("settings", [
    {"layers_to_transform": ["1"]}, {"layers_to_transform": [1], "layers_pattern": ["h"]},
    {"layers_to_transform": True}, {"target_modules": ["q_proj", 3]},
    {"target_modules": {"q_proj": 1}}, {"target_modules": "("}, {"exclude_modules": r"(a)\1"},
    {"target_modules": "x" * 2**20}, {"target_modules": "\ud800"},
    {"rank_pattern": {str(n): 1 for n in range(6000)}}, {"rank_pattern": {"x" * 2**20: 1}},
    {"rank_pattern": {"q_proj": True}}, {"rank_pattern": {"q_proj": 2.5}},
    {"rank_pattern": {"q_proj": 10**400}}, {"alpha_pattern": {"q_proj": 10**400}},
    {"alpha_pattern": {"q_proj": "1"}},
], ids=lambda x: str(x)[:40])  # fmt: skip
def test_settings_that_mean_nothing(tmp_path: Path, settings: dict[str, Any]) -> None:
    found = config(tmp_path, **{"target_modules": ["q_proj"], **settings})
    with pytest.raises(ConfigError) as caught:
        found.targets(NAMES)
        found.ranks(NAMES)
        found.alphas(NAMES)
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


def test_no_expression_takes_long(tmp_path: Path) -> None:
    """Python's own engine would need years for these."""
    evil = {"(a|b|[a-z._0-9]+)+" * 5 + "!": 2, "(.*)*" * 20 + "!": 3, "(((.?){50}){50})!": 4}
    began = time.perf_counter()
    found = config(tmp_path, rank_pattern=evil, target_modules="(.*.*)*!")
    try:
        assert found.targets(NAMES) == []
        assert set(found.ranks(NAMES)) == {8}
    except GemkitError as error:
        assert "regular expression of RE2" in str(error)
    assert time.perf_counter() - began < 5
