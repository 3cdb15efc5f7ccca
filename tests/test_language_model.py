"""The user's object against what its parts compute."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small

import gemkit
from gemkit.errors import (
    GenerationError,
    ModelNotFoundError,
    TokenizerError,
    UsageError,
)
from gemkit.language_model import LanguageModel
from gemkit.text.fim import fim_ids
from gemkit.text.middle import Gap

PROMPTS = ["The warm soup", "The cold tea at"]
# As in tests/cli, so that the same programs serve.
SAMPLED: dict[str, Any] = {
    "temperature": 1.5, "top_k": 40, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.2,
    "seed": 3,
}  # fmt: skip
# A random model would repeat the last token, which ends a middle.
MIDDLE: dict[str, Any] = {"max_new_tokens": 9, "repetition_penalty": 50.0}


@pytest.fixture(scope="module")
def lm(small_model: Path) -> LanguageModel:
    return gemkit.load(small_model)


def test_logits_of_one_and_of_padded_rows(lm: LanguageModel) -> None:
    one, two = (lm.tokenizer.encode(text, bos=True) for text in PROMPTS)
    assert len(one) < len(two)
    padded = [one + [0] * (len(two) - len(one)), two]
    found = np.asarray(lm.logits(padded))
    assert found.shape == (2, len(two), small.CONFIG.vocab_size)
    assert found.dtype == np.float32
    for row, ids in enumerate((one, two)):
        alone = np.asarray(lm.logits(ids))
        assert alone.shape == (len(ids), small.CONFIG.vocab_size)
        np.testing.assert_allclose(found[row, : len(ids)], alone, atol=1e-4)


def test_a_greedy_answer_is_the_likeliest_token_after_token(lm: LanguageModel) -> None:
    ids = lm.tokenizer.encode(PROMPTS[0], bos=True)
    start = len(ids)
    for _ in range(9):
        ids.append(int(np.asarray(lm.logits(ids))[-1].argmax()))
    assert lm.generate(PROMPTS[0], max_new_tokens=9) == lm.tokenizer.decode(ids[start:])


@pytest.mark.parametrize("settings", [{}, SAMPLED], ids=["greedy", "sampled"])
def test_batch_stream_and_single_agree(lm: LanguageModel, settings: dict[str, Any]) -> None:
    both = lm.generate(PROMPTS, max_new_tokens=9, **settings)
    assert isinstance(both, list)
    for prompt, answer in zip(PROMPTS, both, strict=True):
        assert lm.generate(prompt, max_new_tokens=9, **settings) == answer
        pieces = list(lm.stream(prompt, max_new_tokens=9, **settings))
        assert "".join(pieces) == answer and len(pieces) > 1
        echoed = "".join(lm.stream(prompt, max_new_tokens=9, echo=True, **settings))
        assert echoed == lm.generate(prompt, max_new_tokens=9, echo=True, **settings)
        assert echoed == prompt + answer
    assert lm.generate([], max_new_tokens=9) == []


def test_stops_end_an_answer_before_them(lm: LanguageModel) -> None:
    one, two = lm.generate(PROMPTS, max_new_tokens=9)
    stops = (one[4:6], two[5:8])
    cut = [min((x.index(s) for s in stops if s in x), default=len(x)) for x in (one, two)]
    expected = [one[: cut[0]], two[: cut[1]]]
    assert expected != [one, two]
    assert lm.generate(PROMPTS, max_new_tokens=9, stop=stops) == expected
    assert "".join(lm.stream(PROMPTS[0], max_new_tokens=9, stop=stops)) == expected[0]
    assert lm.generate(PROMPTS[0], max_new_tokens=9, stop=stops[0]) == one[: one.index(stops[0])]


def test_the_end_of_a_turn_ends_an_answer(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = lm.tokenizer.encode(PROMPTS[0], bos=True)
    start = len(ids)
    for _ in range(4):
        ids.append(int(np.asarray(lm.logits(ids))[-1].argmax()))
    end = ids[-1]
    monkeypatch.setattr(lm.tokenizer, "end_of_turn_id", end)
    monkeypatch.setattr(lm.tokenizer, "special_ids", lm.tokenizer.special_ids | {end})
    expected = lm.tokenizer.decode(ids[start : ids.index(end, start)])
    assert lm.generate(PROMPTS[0], max_new_tokens=9) == expected


def test_limits_count_tokens(lm: LanguageModel) -> None:
    prompt = len(lm.tokenizer.encode(PROMPTS[0], bos=True))
    nine = lm.generate(PROMPTS[0], max_new_tokens=9)
    assert lm.generate(PROMPTS[0], max_length=prompt + 9) == nine
    long = "soup " * small.CONTEXT
    while len(lm.tokenizer.encode(long, bos=True)) > small.CONTEXT - 2:
        long = long[:-5]
    room = small.CONTEXT - len(lm.tokenizer.encode(long, bos=True))
    assert lm.generate(long, max_new_tokens=50) == lm.generate(long, max_new_tokens=room)
    assert 2 <= room < 50
    with pytest.raises(GenerationError, match="fewer than 128, the model's context"):
        lm.generate("soup " * small.CONTEXT)


@pytest.mark.parametrize("prompt", ["", ["a", ""], [None]])
def test_prompts_that_are_none(lm: LanguageModel, prompt: Any) -> None:
    with pytest.raises((GenerationError, UsageError), match="the prompt is empty|a prompt is a"):
        lm.generate(prompt)


def test_chat_is_a_generation_from_turns(lm: LanguageModel) -> None:
    messages = [
        {"role": "user", "content": "Is it warm?"},
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": "Why?"},
    ]
    turns = [f"<start_of_turn>{r}\n{{}}<end_of_turn>\n" for r in ("user", "model", "user")]
    plain = "".join(turns).format("Is it warm?", "No.", "Why?") + "<start_of_turn>model\n"
    answer = lm.chat(messages, max_new_tokens=9)
    assert answer == lm.generate(plain, max_new_tokens=9, parse_special=True)
    assert answer == "".join(lm.stream_chat(messages, max_new_tokens=9))
    assert answer != lm.chat(messages[:1], max_new_tokens=9)
    with pytest.raises(UsageError, match="at least one user message"):
        lm.chat([{"role": "system", "content": "a"}])


def test_complete_fills_the_middle(lm: LanguageModel) -> None:
    prefix, suffix, context = "def a():\n    ", "\n\nb()", {"b.py": "def b():\n    pass\n"}
    middle = lm.complete(prefix, suffix, context, path="a.py", **MIDDLE)
    ids = fim_ids(lm.tokenizer, prefix, suffix, context, "a.py")
    text = lm.tokenizer.decode(ids[1:], skip_special=False)
    answer = lm.generate(text, parse_special=True, **MIDDLE)
    assert middle == Gap(prefix, suffix).cut(answer)
    assert middle and middle != lm.complete(prefix, suffix, **MIDDLE)


def test_complete_cuts_far_text_but_not_the_limit(lm: LanguageModel) -> None:
    far = "value = 1\n" * small.CONTEXT
    assert lm.complete(far + "x = ", "\n" + far, {"c.py": far}, **MIDDLE)
    with pytest.raises(UsageError, match="max_new_tokens is"):
        lm.complete("x = ", max_new_tokens=small.CONTEXT)


def test_complete_needs_its_tokens(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(lm.tokenizer), "__contains__", lambda self, piece: False)
    with pytest.raises(TokenizerError, match="no <|fim_prefix|>.*CodeGemma"):
        lm.complete("x = ")


def test_choices_are_scored_as_continuations(lm: LanguageModel) -> None:
    choices = ["good", "bad", "cold tea"]
    found = lm.choose(PROMPTS, choices)
    for prompt, choice in zip(PROMPTS, found, strict=True):
        expected = [log_prob(lm, prompt, lm.tokenizer.encode(text)) for text in choices]
        np.testing.assert_allclose(choice.log_probs, expected, atol=1e-3)
        shares = np.exp(np.array(expected) - max(expected))
        np.testing.assert_allclose(choice.probabilities, shares / shares.sum(), atol=1e-3)
        assert math.isclose(sum(choice.probabilities), 1)
        assert choice.choice == choices[int(np.argmax(expected))]


def test_choices_that_begin_each_other_are_closed(lm: LanguageModel) -> None:
    choices = ["good", "good bad"]
    ids = [lm.tokenizer.encode(choice) for choice in choices]
    assert ids[1][: len(ids[0])] == ids[0]
    closed = [[*x, lm.tokenizer.eos_id] for x in ids]
    assert lm.closed(ids) == closed
    assert lm.closed([[5], [6, 5]]) == [[5], [6, 5]]
    found = lm.choose(PROMPTS[0], choices)
    expected = [log_prob(lm, PROMPTS[0], x) for x in closed]
    np.testing.assert_allclose(found.log_probs, expected, atol=1e-3)


def log_prob(lm: LanguageModel, prompt: str, continuation: list[int]) -> float:
    ids = lm.tokenizer.encode(prompt, bos=True)
    logits = np.asarray(lm.logits(ids + continuation), np.float64)
    total = 0.0
    for place, token in enumerate(continuation, len(ids) - 1):
        row = logits[place] - logits[place].max()
        total += row[token] - math.log(np.exp(row).sum())
    return total


@pytest.mark.parametrize("choices", [[], ["a"], ["a", "a"], ["a", ""]])
def test_choices_that_are_none(lm: LanguageModel, choices: Any) -> None:
    with pytest.raises(UsageError, match="two or more, different, not empty"):
        lm.choose(PROMPTS[0], choices)


def test_saved_and_loaded_again(lm: LanguageModel, small_run: Any, tmp_path: Path) -> None:
    lm.save(tmp_path / "same")
    again = gemkit.load(tmp_path / "same")
    assert again.base_hash == lm.base_hash
    assert again.config == lm.config
    with pytest.raises(UsageError, match="format is 'onnx'"):
        lm.save(tmp_path / "other", format="onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["same"]


def test_an_adapter_over_its_base_is_the_run(lm: LanguageModel, small_run: Any) -> None:
    adapter = small_run.path / "adapter"
    adapted = gemkit.load(lm.name, adapter=adapter)
    ids = lm.tokenizer.encode(PROMPTS[0], bos=True)
    np.testing.assert_array_equal(adapted.logits(ids), gemkit.load(small_run.path).logits(ids))
    assert np.abs(np.asarray(adapted.logits(ids)) - np.asarray(lm.logits(ids))).max() > 0.1
    with pytest.raises(UsageError, match="an adapter of its own"):
        gemkit.load(small_run.path, adapter=adapter)


def test_summary_and_params(lm: LanguageModel, small_run: Any) -> None:
    assert "LoRA" not in lm.summary()
    assert "LoRA" in lm.summary(lora_rank=2) and "LoRA" in small_run.result.lm.summary()
    assert lm.params is lm.base
    assert small_run.result.lm.params is not small_run.result.lm.base


def test_a_model_without_a_tokenizer() -> None:
    lm = gemkit.init(small.CONFIG, seed=1)
    assert np.asarray(lm.logits([2, 5])).shape == (2, small.CONFIG.vocab_size)
    with pytest.raises(TokenizerError, match="random has no tokenizer"):
        lm.generate("a")
    one, same, other = (gemkit.init(small.CONFIG, seed=seed).base_hash for seed in (1, 1, 2))
    assert one == same != other


def test_models_that_are_not_there(small_model: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        gemkit.load("gemma")
    with pytest.raises(UsageError, match="no variant"):
        gemkit.init("gemma")
    with pytest.raises(UsageError, match="'int3'"):
        gemkit.load(small_model, quantize="int3")


def test_stop_texts_do_not_depend_on_the_pieces(lm: LanguageModel) -> None:
    whole = lm.generate(PROMPTS[0], max_new_tokens=9)
    for start, size in itertools.product((2, 5), (1, 4)):
        stop = whole[start : start + size]
        cut = whole[: whole.index(stop)]
        assert "".join(lm.stream(PROMPTS[0], max_new_tokens=9, stop=stop)) == cut
