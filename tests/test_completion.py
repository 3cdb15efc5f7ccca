"""Completions that stop in time, choices weighed, code explained: the user's object again."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small

import gemkit
from gemkit.errors import GenerationError, TokenizerError, UsageError
from gemkit.generate.engine import Engine
from gemkit.generate.request import Answer, Request
from gemkit.language_model import LanguageModel
from gemkit.text.fim import fim_ids, fim_stop_ids
from gemkit.text.templates import explain_prompt


@pytest.fixture(scope="module")
def lm(small_model: Path) -> LanguageModel:
    return gemkit.load(small_model)


WRITTEN = "return 1\n\n\ndef g():\n    return 2\n" + "x = 3\n" * 20


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Request, Answer]]:
    """What the engine is asked, and what came of it."""
    asked: list[tuple[Request, Answer]] = []
    add = Engine.add

    def added(self: Engine, request: Request) -> Answer:
        asked.append((request, add(self, request)))
        return asked[-1][1]

    monkeypatch.setattr(Engine, "add", added)
    return asked


@pytest.mark.parametrize("lines", ["auto", "one"])
def test_writing_stops_where_the_middle_ends(
    lm: LanguageModel, requests: list[tuple[Request, Answer]], lines: Any
) -> None:
    """The model is made to write this text, and would go on for long."""
    middle = lm.complete(
        "def f():\n    ", "\n", lines=lines, choices=[WRITTEN], max_new_tokens=60
    )
    assert middle == "return 1"
    (_, answer), = requests
    whole = lm.tokenizer.encode(WRITTEN)
    assert answer.tokens == whole[: len(answer.tokens)]
    assert answer.ended == "cancelled" and len(answer.tokens) < 30 < len(whole)


def test_a_middle_that_never_ends_is_given_whole(lm: LanguageModel) -> None:
    assert lm.complete("", "", {"a.py": ""}, choices=["x = 1\n" * 3]) == "x = 1\n" * 3


@pytest.mark.parametrize("order", ["psm", "spm"])
def test_the_prompt_and_what_ends_it(
    lm: LanguageModel, requests: list[tuple[Request, Answer]], order: Any
) -> None:
    lm.complete("x = ", "\n", {"b.py": "y = 1\n"}, "a.py", order, max_new_tokens=7)
    lm.complete("x = ", max_new_tokens=None)
    (one, _), (two, _) = requests
    assert [*one.prompt] == fim_ids(lm.tokenizer, "x = ", "\n", {"b.py": "y = 1\n"}, "a.py", order)
    assert (one.limit, one.sampling.temperature, two.limit) == (7, 0.0, small.CONTEXT // 4)
    assert set(one.stop_ids) == set(fim_stop_ids(lm.tokenizer)) and len(one.stop_ids) == 6


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "said"),
    [
        (("", ""), {}, GenerationError, "the text around the gap is empty"),
        (("x",), {"max_new_tokens": 0}, UsageError, "max_new_tokens is 0"),
        (("x",), {"max_new_tokens": small.CONTEXT - 2}, UsageError, "a budget of 2 tokens"),
        (("x",), {"max_new_tokens": small.CONTEXT + 1}, UsageError, "fewer than 128"),
        (("x",), {"lines": "few"}, UsageError, "lines is 'few'"),
        (("x",), {"order": "msp"}, UsageError, "order 'msp'"),
        (("x\ud800",), {}, TokenizerError, "lone surrogate"),
    ],
)
def test_what_cannot_be_completed(
    lm: LanguageModel, arguments: Any, settings: Any, error: Any, said: str
) -> None:
    with pytest.raises(error, match=said):
        lm.complete(*arguments, **settings)


def test_log_likelihoods_add_up(lm: LanguageModel) -> None:
    found = lm.choose("The warm soup", ["good", "cold tea"])
    singles = [lm.log_likelihood("The warm soup", choice) for choice in ("good", "cold tea")]
    np.testing.assert_allclose(singles, found.log_probs, atol=1e-4)
    with pytest.raises(GenerationError, match="a continuation has no tokens"):
        lm.log_likelihood("The warm soup", "")


def test_choices_weighed_otherwise(lm: LanguageModel) -> None:
    prompts, choices = ["The warm soup", "The cold tea at"], ["good", "cold tea"]
    lengths = [len(lm.tokenizer.encode(choice)) for choice in choices]
    assert lengths[0] != lengths[1]
    content_free = np.array(lm.choose("N/A", choices).log_probs)
    for normalize in ("sum", "mean"):
        divisor = np.array(lengths if normalize == "mean" else [1, 1])
        for calibrate in (None, "N/A"):
            base = content_free if calibrate else 0.0
            for found in lm.choose(prompts, choices, normalize, calibrate):  # type: ignore[arg-type]
                shares = np.exp((np.array(found.log_probs) - base) / divisor)
                np.testing.assert_allclose(
                    found.probabilities, shares / shares.sum(), atol=1e-4
                )
    same = lm.choose("N/A", choices, calibrate="N/A")
    np.testing.assert_allclose(same.probabilities, [0.5, 0.5], atol=1e-4)


@pytest.mark.parametrize(
    ("choices", "settings", "error", "said"),
    [
        ("ab", {}, UsageError, "choices are 'ab'; expected two or more"),
        (["a", "b"], {"normalize": "max"}, UsageError, "normalize is 'max'"),
        (["a", "b"], {"calibrate": ""}, GenerationError, "the prompt is empty"),
        (["a b", "a\u2581b"], {}, UsageError, "two or more, different"),
    ],
)
def test_choices_that_cannot_be_weighed(
    lm: LanguageModel, choices: Any, settings: Any, error: Any, said: str
) -> None:
    with pytest.raises(error, match=said):
        lm.choose("The warm soup", choices, **settings)


def test_explain_asks_about_the_code(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def stream_chat(messages: Sequence[Any], **settings: Any) -> Iterator[str]:
        asked.append((messages, settings))
        yield from ("# A", " title")

    monkeypatch.setattr(lm, "stream_chat", stream_chat)
    monkeypatch.setattr("gemkit.language_model.explain_prompt", lambda *given: repr(given))
    assert lm.explain(">>> 1 + 1\n2\n", "Korean", max_new_tokens=5) == "# A title"
    question = {"role": "user", "content": repr(("1 + 1\n", "Korean"))}
    assert asked == [([question], {"max_new_tokens": 5})]


def test_code_that_cannot_be_explained(lm: LanguageModel) -> None:
    for code in ("", " \n", ">>> \n"):
        with pytest.raises(GenerationError, match="the code is empty"):
            lm.explain(code)
    # The context is too small for the question itself.
    assert len(lm.tokenizer.encode(explain_prompt("x"))) > small.CONTEXT * 3 // 4
    with pytest.raises(GenerationError, match="tokens long; expected at most 96, .*START-END"):
        lm.explain("x")
