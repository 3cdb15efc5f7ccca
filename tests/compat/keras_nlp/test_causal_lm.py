"""KerasNLP's meaning of generate, compile and the files of a model."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import CONTEXT

from gemkit.compat import keras, keras_hub, keras_nlp
from gemkit.compat.keras_hub.models import CausalLM
from gemkit.errors import GemkitError, ModelNotFoundError, UsageError

PROMPTS = ["the soup", "the soup was warm and", "b"]


def ids(lm: Any, text: str) -> list[int]:
    return [lm.preprocessor.tokenizer.start_token_id, *lm.preprocessor.tokenizer(text).tolist()]


def test_lengths_count_the_prompt_which_is_echoed(lm: Any) -> None:
    texts = lm.generate(PROMPTS, max_length=14, stop_token_ids=None)
    own = lm.language_model
    for prompt, text in zip(PROMPTS, texts, strict=True):
        assert text.startswith(prompt)
        row = ids(lm, prompt)
        while len(row) < 14:
            row.append(int(own.logits(row)[-1].argmax()))
        assert text == lm.preprocessor.tokenizer.detokenize(
            [t for t in row if t not in lm.preprocessor.tokenizer.special_token_ids]
        )
    assert lm.generate(PROMPTS[0], max_length=14, stop_token_ids=None) == texts[0]
    answer = lm.generate(PROMPTS[0], max_length=14, stop_token_ids=None, strip_prompt=True)
    assert texts[0] == PROMPTS[0] + answer
    # By default as long as the preprocessor's rows; a longer prompt is cut.
    lm.preprocessor.sequence_length = 14
    assert lm.generate(PROMPTS, stop_token_ids=None) == texts
    assert PROMPTS[1].startswith(lm.generate(PROMPTS[1], max_length=4))


def test_stops_stay_in_the_text_unless_special(lm: Any) -> None:
    whole = lm.generate("the soup", max_length=16, stop_token_ids=None, strip_prompt=True)
    row = ids(lm, "the soup")
    made = []
    while len(row) < 16:
        made.append(int(lm.language_model.logits(row)[-1].argmax()))
        row.append(made[-1])
    stop = made[4]
    cut = lm.generate("the soup", max_length=16, stop_token_ids=[stop], strip_prompt=True)
    assert cut == lm.preprocessor.tokenizer.detokenize(made[: made.index(stop) + 1])
    assert whole.startswith(cut) and len(cut) < len(whole)


def test_arguments_that_cannot_be(lm: Any) -> None:
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (3, {}, "the prompt is a int"), ([3], {}, "a text is a int"),
        ("b", {"max_length": -4}, "max_length is -4"),
        ("b", {"stop_token_ids": 5}, "stop_token_ids is 5.*token_to_id"),
        ("b", {"stop_token_ids": ["."]}, r"stop_token_ids is \['.'\]"),
        ("b", {"temperature": 0.7}, r"generate got temperature.*compile\(sampler"),
    ]  # fmt: skip
    for prompt, more, said in cases:
        with pytest.raises(UsageError, match=said):
            lm.generate(prompt, **{"max_length": 9, **more})


def test_arrays_without_a_preprocessor(preset: Path) -> None:
    lm = keras_nlp.models.GemmaCausalLM.from_preset(preset, preprocessor=None)
    inputs = {"token_ids": np.asarray([[2, 9, 8, 0, 0, 0]]), "padding_mask": [[1, 1, 1, 0, 0, 0]]}
    found = lm.generate(inputs, stop_token_ids=None)
    assert found["padding_mask"].all() and found["token_ids"][0, :3].tolist() == [2, 9, 8]
    stop = int(found["token_ids"][0, 3])
    cut = lm.generate(inputs, stop_token_ids=(stop,))
    assert cut["padding_mask"].tolist() == [[True] * 4 + [False] * 2]
    with pytest.raises(UsageError, match="no preprocessor"):
        lm.generate(inputs)


def test_samplers(lm: Any) -> None:
    greedy = lm.generate("the soup", max_length=12)
    lm.compile(sampler=keras_nlp.samplers.TopKSampler(k=1))
    assert lm.generate("the soup", max_length=12) == greedy
    lm.compile(sampler=keras_hub.samplers.TopKSampler(k=20, seed=3, temperature=3.0))
    first = [lm.generate(["the soup"] * 2, max_length=12) for _ in range(2)]
    assert len({*first[0], *first[1]}) > 2  # rows and calls draw anew
    lm.compile(sampler=keras_hub.samplers.TopKSampler(k=20, seed=3, temperature=3.0))
    assert [lm.generate(["the soup"] * 2, max_length=12) for _ in range(2)] == first
    drawn = []
    for _ in range(2):
        keras.utils.set_random_seed(7)
        lm.compile(sampler="random")
        drawn.append(lm.generate("the soup", max_length=12))
    assert drawn[0] == drawn[1]
    random.seed()
    lm.compile(sampler="beam")
    assert lm.generate("the soup", max_length=8).startswith("the soup")
    for wrong, hint in (("topk", "did you mean top_k"), (object(), "one of greedy")):
        with pytest.raises(UsageError, match=hint):
            lm.compile(sampler=wrong)


def test_lora_files_and_presets(lm: Any, tmp_path: Path) -> None:
    backbone, before = lm.backbone, lm.generate("the soup", max_length=12)
    with pytest.raises(UsageError, match="enable_lora"):
        backbone.save_lora_weights(tmp_path / "x.lora.h5")
    backbone.enable_lora(rank=3)
    assert lm.generate("the soup", max_length=12) == before
    draw = np.random.default_rng(1)
    backbone.set_weights([draw.normal(size=w.shape) * 0.3 for w in backbone.get_weights()])
    tuned = lm.generate("the soup", max_length=12)
    assert tuned != before
    backbone.save_lora_weights(str(tmp_path / "x.lora.h5"))
    other = keras_nlp.models.GemmaCausalLM(
        keras_nlp.models.GemmaBackbone.of(backbone.model_config, backbone.base), lm.preprocessor
    )
    other.backbone.load_lora_weights(str(tmp_path / "x.lora.h5"))
    for ours, theirs in zip(backbone.get_weights(), other.backbone.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)
    assert other.generate("the soup", max_length=12) == tuned
    lm.save_to_preset(tmp_path / "merged")
    again = CausalLM.from_preset(tmp_path / "merged")
    assert again.generate("the soup", max_length=12) == tuned
    # A second adapter starts from the tuned weights.
    backbone.enable_lora(rank=2)
    assert lm.generate("the soup", max_length=12) == tuned
    with pytest.raises(UsageError, match="rank 3"):
        backbone.load_lora_weights(tmp_path / "x.lora.h5")
    for name, value in (("rank", 0), ("target_layer_names", ["nothing"])):
        with pytest.raises(UsageError):
            backbone.enable_lora(**{"rank": 2, name: value})


def test_summary(lm: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lm.summary()
    out = capsys.readouterr().out
    config = lm.backbone.model_config
    base = sum(leaf.size for leaf in lm.backbone.get_weights())
    assert 'Preprocessor: "gemma_causal_lm_preprocessor"' in out and "Vocab size: 320" in out
    assert 'Model: "gemma_causal_lm"' in out and "(GemmaBackbone)" in out
    assert f" Total params: {base:,} (" in out and f" Trainable params: {base:,} (" in out
    assert " Non-trainable params: 0 (0.00 B)" in out
    lm.backbone.enable_lora(rank=4)
    lm.summary()
    out = capsys.readouterr().out
    c = config
    added = 4 * c.num_layers * (
        c.num_heads * c.hidden_size + c.num_kv_heads * c.hidden_size + 2 * c.head_dim
    )  # fmt: skip
    assert f" Total params: {base + added:,} (" in out
    assert f" Trainable params: {added:,} (" in out
    assert f" Non-trainable params: {base:,} (" in out
    assert lm.count_params() == base + added


def test_summary_and_sizes_of_the_backbone(lm: Any) -> None:
    """The rows add up to the total, with an adapter too."""
    backbone = lm.backbone
    for rank in (None, 3):
        if rank is not None:
            backbone.enable_lora(rank)
        said: list[str] = []
        backbone.summary(print_fn=said.append)
        cells = [line.split("│") for line in said[0].splitlines() if line.startswith("│")]
        counts = [int(row[3].replace(",", "")) for row in cells if row[3].strip()]
        assert sum(counts) == backbone.count_params()
        assert f" Total params: {backbone.count_params():,} (" in said[0]
    c = backbone.model_config
    assert (backbone.num_layers, backbone.hidden_dim) == (c.num_layers, c.hidden_size)
    assert (backbone.vocabulary_size, backbone.intermediate_dim) == (320, 80)
    assert backbone.trainable and lm.trainable
    with pytest.raises(UsageError, match="enable_lora"):
        lm.trainable = False


def test_gemma_3_has_its_names(small_model: Path, tmp_path: Path) -> None:
    """A Hugging Face folder serves as a preset too; its context limits answers."""
    lm = keras_nlp.models.GemmaCausalLM.from_preset(str(small_model))
    assert type(lm).__name__ == "Gemma3CausalLM" and isinstance(lm, keras_nlp.models.CausalLM)
    assert type(lm.backbone).__name__ == "Gemma3Backbone"
    assert len(ids(lm, lm.generate("The warm", max_length=10 * CONTEXT))) <= CONTEXT + 8
    tokens = lm.preprocessor.tokenizer
    assert tokens.token_to_id("<|fim_prefix|>") in tokens("a<|fim_prefix|>b").tolist()


def test_scores(lm: Any) -> None:
    row = np.asarray([ids(lm, "the soup")])
    logits = lm.score(row)
    assert np.array_equal(logits, lm({"token_ids": row}))
    losses = lm.score(row, scoring_mode="loss", target_ids=row)
    wanted = -logits + np.log(np.exp(logits).sum(-1, keepdims=True))
    assert np.allclose(losses, np.take_along_axis(wanted, row[..., None], -1)[..., 0], atol=1e-4)
    states = lm.backbone({"token_ids": row, "padding_mask": np.ones_like(row)})
    assert states.shape == (*row.shape, lm.backbone.model_config.hidden_size)
    for wrong in ({"scoring_mode": "x"}, {"scoring_mode": "loss"},
                  {"layer_intercept_fn": lambda x, i: x}):  # fmt: skip
        with pytest.raises(UsageError):
            lm.score(row, **wrong)


def test_a_backbone_from_sizes_and_the_dtype(preset: Path) -> None:
    backbone = keras_nlp.models.GemmaBackbone(
        vocabulary_size=320, num_layers=1, num_query_heads=2, num_key_value_heads=1,
        hidden_dim=16, intermediate_dim=48, head_dim=8,
    )  # fmt: skip
    assert backbone.model_config.intermediate_size == 24
    tokenizer = keras_nlp.models.GemmaTokenizer.from_preset(preset)
    preprocessor = keras_nlp.models.GemmaCausalLMPreprocessor(tokenizer, sequence_length=9)
    made = keras_nlp.models.GemmaCausalLM(backbone, preprocessor)
    assert made.generate("b").startswith("b")
    keras.config.set_floatx("bfloat16")
    try:
        lm = keras_nlp.models.GemmaCausalLM.from_preset(preset)
    finally:
        keras.config.set_floatx("float32")
    assert {leaf.dtype.name for leaf in lm.get_weights()} == {"bfloat16"}


def test_what_there_is_not_says_so(lm: Any, preset: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="gemkit fetch gemma_2b_en"):
        keras_nlp.models.GemmaCausalLM.from_preset("gemma_2b_en")
    with pytest.raises(UsageError, match="no predict here; expected generate"):
        lm.predict(["x"])
    assert not hasattr(lm.backbone, "quantize")
    with pytest.raises(UsageError, match="no save_weights here; expected save_to_preset"):
        lm.save_weights("x")
    assert "gemma_2b_en" in keras_nlp.models.GemmaCausalLM.presets
    with pytest.raises(GemkitError, match="float32"):
        keras_nlp.models.GemmaCausalLM.from_preset(preset, dtype="int8")
    with pytest.raises(UsageError, match="weighted_metrics"):
        lm.compile(metrics=["accuracy"])
