"""The variants table: published counts, names, handles and the facts others got wrong."""

import re
from collections import Counter

import pytest

from gemkit.model.variants import VARIANTS, Variant
from gemkit.model.weights import count_parameters

PUBLISHED = {
    ("Gemma 1", "2b"): 2_506_172_416,
    ("Gemma 1", "7b"): 8_537_680_896,
    ("CodeGemma", "2b"): 2_506_172_416,
    ("CodeGemma", "7b"): 8_537_680_896,
    ("Gemma 2", "2b"): 2_614_341_888,
    ("Gemma 2", "9b"): 9_241_705_984,
    ("Gemma 2", "27b"): 27_227_128_320,
    ("Gemma 3", "270m"): 268_098_176,
    ("Gemma 3", "1b"): 999_885_952,
    ("Gemma 3", "4b"): 3_880_099_328,
    ("Gemma 3", "12b"): 11_765_788_416,
    ("Gemma 3", "27b"): 27_009_002_240,
}
PREFIXES = {"Gemma 1": "gemma", "CodeGemma": "code_gemma", "Gemma 2": "gemma2", "Gemma 3": "gemma3"}
CONTEXTS = {"Gemma 1": 8192, "CodeGemma": 8192, "Gemma 2": 8192, "Gemma 3": 131_072}

every_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


def size(variant: Variant) -> str:
    found = re.search(r"_(\d+[bm])(_|$)", variant.name)
    assert found is not None
    return found[1]


def test_all_are_there() -> None:
    assert len(VARIANTS) == 27
    assert all(name == variant.name for name, variant in VARIANTS.items())
    assert {(v.family, size(v)) for v in VARIANTS.values()} == PUBLISHED.keys()
    per_family = Counter(variant.family for variant in VARIANTS.values())
    assert per_family == {"Gemma 1": 6, "CodeGemma": 5, "Gemma 2": 6, "Gemma 3": 10}
    for field in ("kaggle", "hugging_face"):
        assert len({getattr(variant, field) for variant in VARIANTS.values()}) == 27


@every_variant
def test_the_parameter_count_is_the_published_one(variant: Variant) -> None:
    published = PUBLISHED[variant.family, size(variant)]
    assert count_parameters(variant.config) == variant.parameters == published


@every_variant
def test_names_follow_the_family(variant: Variant) -> None:
    prefix = PREFIXES[variant.family]
    suffix = "_text|" if variant.family == "Gemma 3" else "_en"
    pattern = rf"{prefix}(_1\.1)?(_instruct)?_\d+[bm]({suffix})"
    assert re.fullmatch(pattern, variant.name)
    assert variant.instruct == ("_instruct" in variant.name)
    folder = prefix.replace("_", "")
    assert re.fullmatch(rf"keras/{folder}/keras/{variant.name}/[1-5]", variant.kaggle)
    organisation, repository = variant.hugging_face.split("/")
    assert organisation == "google"
    assert repository.endswith("-it") == variant.instruct
    assert f"-{size(variant)}" in repository
    assert ("1.1" in variant.name) == ("1.1" in repository)


@every_variant
def test_features_follow_the_family(variant: Variant) -> None:
    c, family = variant.config, variant.family
    assert c.qk_norm == (family == "Gemma 3")
    assert c.post_norms == (family in ("Gemma 2", "Gemma 3"))
    caps = (50.0, 30.0) if family == "Gemma 2" else (None, None)
    assert (c.attn_logit_softcap, c.final_logit_softcap) == caps
    assert c.vocab_size == (262_144 if family == "Gemma 3" else 256_000)
    assert variant.fim == (family == "CodeGemma" and not variant.instruct)
    assert (c.rope_local_theta, c.norm_eps) == (10_000.0, 1e-6)
    assert c.rope_theta == (1_000_000.0 if family == "Gemma 3" else 10_000.0)
    large = family == "Gemma 3" and size(variant) not in ("270m", "1b")
    assert c.rope_scale == (8.0 if large else 1.0)
    small = family == "Gemma 3" and not large
    assert c.max_positions == (32_768 if small else CONTEXTS[family])


@every_variant
def test_local_layers_are_where_they_belong(variant: Variant) -> None:
    for layer, kind in enumerate(variant.config.layer_kinds):
        if variant.family == "Gemma 2":
            expected = "local" if layer % 2 == 0 else "global"
        elif variant.family == "Gemma 3":
            expected = "global" if layer % 6 == 5 else "local"
        else:
            expected = "global"
        assert kind == expected, layer
    windows = {"270m": 512, "1b": 512}
    window = {"Gemma 2": 4096, "Gemma 3": windows.get(size(variant), 1024)}
    assert variant.config.sliding_window == window.get(variant.family)


@every_variant
def test_only_the_27b_models_scale_queries_by_width_over_heads(variant: Variant) -> None:
    c = variant.config
    per_query = c.hidden_size // c.num_heads if size(variant) == "27b" else c.head_dim
    assert c.query_scale == pytest.approx(per_query**-0.5, rel=1e-12)
