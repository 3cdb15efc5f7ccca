"""What the user's object answers: several, constrained, scored, shared starts, given up."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import small

import gemkit
from gemkit.answering.answerer import STREAM_STEPS
from gemkit.errors import GenerationError, UsageError
from gemkit.generate import decode, engine
from gemkit.language_model import LanguageModel

PROMPTS = ["The warm soup", "The cold tea at"]
DRAWN: dict[str, Any] = {"max_new_tokens": 9, "temperature": 1.5, "seed": 5}
# Of more than one block of the prefix cache.
LONG = "The warm soup today. The cold bread again. " * 7
SCHEMA = {
    "type": "object", "properties": {"warm": {"type": "boolean"}, "count": {"enum": [1, 20]}},
    "required": ["warm", "count"], "additionalProperties": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def lm(small_model: Path) -> LanguageModel:
    return gemkit.load(small_model)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Tokens of prompts as they are read."""
    counted: list[int] = []

    def prefill(params: Any, config: Any, cache: Any, rows: Any, tokens: Any, counts: Any,
                *more: Any) -> Any:  # fmt: skip
        counted.append(int(np.sum(counts)))
        return real(params, config, cache, rows, tokens, counts, *more)

    real = decode.prefill
    for module in (decode, engine):
        monkeypatch.setattr(module, "prefill", prefill)
    yield counted


def log_probs(lm: LanguageModel, prompt: str, ids: Any) -> np.ndarray:
    """Of the tokens of an answer, by one plain forward pass."""
    before = lm.tokenizer.encode(prompt, bos=True)
    padding = [0] * (small.CONTEXT - len(before) - len(ids))  # one shape for all
    rows = np.asarray(jax.nn.log_softmax(lm.logits([*before, *ids, *padding]), axis=-1))
    return rows[np.arange(len(ids)) + len(before) - 1, list(ids)]


def test_several_answers_are_drawn_apart(lm: LanguageModel) -> None:
    """Four rows at a time, so that few programs are compiled."""
    both = lm.generate(PROMPTS, n=2, **DRAWN)
    for prompt, answers in zip(PROMPTS, both, strict=True):
        four = lm.generate(prompt, n=4, **DRAWN)
        assert four[:2] == answers and len(set(four)) == 4
        assert lm.generate(prompt, **DRAWN) == answers[0]
        assert lm.generate(prompt, n=1, **DRAWN) == answers[:1]


def test_the_best_of_several_are_the_likeliest(lm: LanguageModel) -> None:
    (drawn,) = lm.answers(PROMPTS[0], n=4, **DRAWN)
    (best,) = lm.answers(PROMPTS[0], n=2, best_of=4, **DRAWN)
    ranked = sorted(drawn, key=lambda reply: -np.mean(reply.log_probs))
    assert best == ranked[:2]
    assert lm.generate(PROMPTS[0], best_of=4, **DRAWN) == ranked[0].text


def test_replies_say_what_the_model_thought_of_them(lm: LanguageModel) -> None:
    found = lm.answers(PROMPTS, max_new_tokens=9, prompt_log_probs=True)
    assert [row[0].text for row in found] == lm.generate(PROMPTS, max_new_tokens=9)
    for prompt, (reply,) in zip(PROMPTS, found, strict=True):
        np.testing.assert_allclose(reply.log_probs, log_probs(lm, prompt, reply.ids), atol=1e-3)
        assert lm.tokenizer.decode(reply.ids) == reply.text
        assert [lm.tokenizer.decode([token]) for token in reply.ids] == [*reply.tokens]
        assert (len(reply.ids), reply.ended) == (9, "limit")
        ids = lm.tokenizer.encode(prompt)
        expected = log_probs(lm, "", ids)
        np.testing.assert_allclose(reply.prompt_log_probs, expected, atol=1e-3)


def test_prompts_as_ids_with_ends_of_their_own(lm: LanguageModel) -> None:
    ids = [lm.tokenizer.encode(prompt, bos=True) for prompt in PROMPTS]
    done: list[tuple[int, int]] = []
    found = lm.answer_ids(ids, (), lambda *each: done.append(each), max_new_tokens=9)
    assert found == lm.answers(PROMPTS, max_new_tokens=9)
    assert done[-1] == (2, 2)
    end = found[1][0].ids[2]
    cut = lm.answer_ids(ids[1:], (end,), max_new_tokens=9)[0][0]
    assert cut.ids == found[1][0].ids[: found[1][0].ids.index(end)] and cut.ended == "stop"


def test_a_reply_ends_with_the_token_of_its_stop(lm: LanguageModel) -> None:
    (whole,), = lm.answers(PROMPTS[1], max_new_tokens=9)
    stop = whole.text[4:6]
    (cut,), = lm.answers(PROMPTS[1], max_new_tokens=9, stop=stop)
    assert (cut.text, cut.ended) == (whole.text[: whole.text.index(stop)], "stop")
    assert cut.ids == whole.ids[: len(cut.ids)] and len(cut.ids) == len(cut.log_probs) < 9
    assert stop in lm.tokenizer.decode(cut.ids)
    assert stop not in lm.tokenizer.decode(cut.ids[:-1])


def test_beams_are_likelier_than_greedy(lm: LanguageModel) -> None:
    (greedy,), = lm.answers(PROMPTS[0], max_new_tokens=5)
    found = lm.answers(PROMPTS, max_new_tokens=5, beams=4, n=3)
    assert [len(row) for row in found] == [3, 3]
    assert max(sum(reply.log_probs) for reply in found[0]) >= sum(greedy.log_probs) - 1e-4
    assert len({reply.ids for reply in found[0]}) == 3
    for reply in found[0]:
        np.testing.assert_allclose(reply.log_probs, log_probs(lm, PROMPTS[0], reply.ids), atol=1e-3)
    assert lm.generate(PROMPTS[0], max_new_tokens=5, beams=4) == found[0][0].text


@pytest.mark.parametrize("settings", [{}, {"temperature": 2.0}], ids=["greedy", "drawn"])
def test_answers_of_a_given_form(lm: LanguageModel, settings: dict[str, Any]) -> None:
    for prompt in PROMPTS:
        given = {"max_new_tokens": 60, **settings}
        choices = ["good", "bad", "very bad"]
        assert lm.generate(prompt, choices=choices, **given) in choices
        assert lm.generate(prompt, regex="[ab]{3}-[0-9]", **given)[3] == "-"
        answer = json.loads(lm.generate(prompt, json_schema=SCHEMA, **given))
        assert answer.keys() == {"warm", "count"} and answer["count"] in (1, 20)
        streamed = lm.stream(prompt, choices=choices, **given)
        assert "".join(streamed) == lm.generate(prompt, choices=choices, **given)


def test_constrained_answers_of_one_batch_are_apart(lm: LanguageModel) -> None:
    found = lm.generate(PROMPTS, n=2, regex="[a-z]{6}", **{**DRAWN, "max_new_tokens": 20})
    answers = [answer for row in found for answer in row]
    assert all(len(answer) == 6 and answer.isalpha() for answer in answers)
    assert len(set(answers)) > 2


def test_banned_forced_and_biased(lm: LanguageModel) -> None:
    plain = lm.generate(PROMPTS[0], max_new_tokens=9)
    for size in (1, 3):
        banned = [plain[size : 2 * size], plain[:1]]
        answer = lm.generate(PROMPTS[0], max_new_tokens=9, banned=banned)
        assert answer and not any(text in answer for text in banned)
    forced = lm.generate(PROMPTS[0], max_new_tokens=9, forced=" is cold")
    assert forced.startswith(" is cold") and len(forced) > len(" is cold")
    assert forced == " is cold" + lm.generate(PROMPTS[0] + " is cold", max_new_tokens=9 - len(
        lm.tokenizer.encode(" is cold")
    ))  # fmt: skip
    soup = lm.tokenizer.encode(" soup")
    assert len(soup) == 1
    assert lm.generate(PROMPTS[0], max_new_tokens=3, logit_bias={" soup": 99}) == " soup" * 3
    assert lm.generate(PROMPTS[0], max_new_tokens=3, logit_bias={soup[0]: 99}) == " soup" * 3
    penalised = lm.generate(
        PROMPTS[0], max_new_tokens=3, logit_bias={" soup": 99}, frequency_penalty=100.0
    )
    assert penalised.count(" soup") == 1 and penalised.startswith(" soup")


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"regex": "["}, UsageError, "the regular expression '\\[': unclosed character class"),
        ({"json_schema": "{"}, UsageError, "the JSON schema is invalid"),
        ({"choices": []}, UsageError, "the choices are \\[\\]"),
        ({"choices": ["a"], "forced": "b"}, UsageError, "begin with 'b', which the constraint"),
        ({"banned": "b", "forced": "ab"}, UsageError, "begin with 'ab', which holds 'b'"),
        ({"banned": ""}, UsageError, "a banned text is empty"),
        ({"banned": 640}, UsageError, "banned holds token 640"),
        ({"max_length": 2}, GenerationError, "prompt 1 is . tokens long and max_length is 2"),
    ],
)
def test_what_cannot_be_asked(
    lm: LanguageModel, options: dict[str, Any], error: Any, said: str
) -> None:
    with pytest.raises(error, match=said):
        lm.generate(PROMPTS, **options)


def test_streams_show_one_answer(lm: LanguageModel) -> None:
    for options in ({"n": 2, "temperature": 1.0}, {"beams": 2}):
        with pytest.raises(UsageError, match=" is 2 in a stream; expected one answer"):
            list(lm.stream(PROMPTS[0], **options))


def test_chat_and_complete_give_several(lm: LanguageModel) -> None:
    message = [{"role": "user", "content": "Is it warm?"}]
    answers = lm.chat(message, n=2, **DRAWN)
    assert len(set(answers)) == 2 and answers[0] == lm.chat(message, **DRAWN)
    # A random model would repeat the last token, which ends a middle.
    settings = {**DRAWN, "repetition_penalty": 50.0, "draft": False}
    middles = lm.complete("def a():\n    ", "\n\nb()", n=2, **settings)
    assert len(set(middles)) == 2
    assert middles[0] == lm.complete("def a():\n    ", "\n\nb()", **settings)


def test_starts_are_read_once(lm: LanguageModel, read: list[int]) -> None:
    """By generations, chats, completions and scores; hits answer as misses do."""
    cold = gemkit.load(lm.name, prefix_bytes=0)
    prompts = [LONG + end for end in ("It", "They", "The tea is")]
    whole = len(lm.tokenizer.encode(LONG))
    assert whole > 64
    for settings in ({"max_new_tokens": 9}, DRAWN):
        warm = gemkit.load(lm.name)
        expected = [cold.generate(prompt, **settings) for prompt in prompts]
        read.clear()
        assert [warm.generate(prompt, **settings) for prompt in prompts] == expected
        missed = read[0]
        assert missed >= whole and max(read[1:]) < missed - 60
        read.clear()
        assert warm.generate(prompts, **settings) == expected
        assert sum(read) < missed
    read.clear()
    choices = ["good", "bad"]
    for prompt in prompts:
        found, expected_choice = warm.choose(prompt, choices), cold.choose(prompt, choices)
        np.testing.assert_allclose(found.log_probs, expected_choice.log_probs, atol=1e-4)
    assert sum(read) < 64
    both = warm.choose(prompts, choices), cold.choose(prompts, choices)
    np.testing.assert_allclose(*([c.log_probs for c in each] for each in both), atol=1e-4)


def test_a_conversation_is_read_once(lm: LanguageModel, read: list[int]) -> None:
    warm, cold = gemkit.load(lm.name), gemkit.load(lm.name, prefix_bytes=0)
    messages = [{"role": "user", "content": LONG[:260]}]
    for _ in range(2):
        read.clear()
        expected = cold.chat(messages, max_new_tokens=6)
        missed = sum(read)
        read.clear()
        assert warm.chat(messages, max_new_tokens=6) == expected
        hit = sum(read)
        messages += [{"role": "assistant", "content": expected}, {"role": "user", "content": "So?"}]
    assert missed - hit >= 64


def test_the_text_above_the_cursor_is_read_once(lm: LanguageModel, read: list[int]) -> None:
    warm, cold = gemkit.load(lm.name), gemkit.load(lm.name, prefix_bytes=0)
    prefixes = [small.CODE * 2 + "\n\n" + more for more in ("def a", "def b(", "c = ")]
    for number, prefix in enumerate(prefixes):
        read.clear()
        expected = cold.complete(prefix, "\n", max_new_tokens=9)
        missed = sum(read)
        read.clear()
        assert warm.complete(prefix, "\n", max_new_tokens=9) == expected
        assert (missed - sum(read) >= 64) == (number > 0)


def test_other_weights_share_nothing(lm: LanguageModel, read: list[int]) -> None:
    other = gemkit.init(small.CONFIG, seed=1)
    one = gemkit.load(lm.name)
    one.generate(LONG, max_new_tokens=2)
    read.clear()
    one.params = other.params
    changed = LanguageModel("other", one.config, other.params, one.tokenizer)
    assert one.generate(LONG, max_new_tokens=9) == changed.generate(LONG, max_new_tokens=9)
    assert sum(read) >= 2 * len(lm.tokenizer.encode(LONG)) 


def test_drafts_change_no_middle(lm: LanguageModel) -> None:
    """The file repeats itself, and so does the middle."""
    prefix = "total = 0\n" + "total += value\n" * 4 + "total"
    for settings in ({"max_new_tokens": 30}, {**DRAWN, "max_new_tokens": 30}):
        for lines in ("one", "many"):
            plain = lm.complete(prefix, "\n", lines=lines, draft=False, **settings)
            assert lm.complete(prefix, "\n", lines=lines, **settings) == plain


def test_completions_draft_unless_told_otherwise(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    add = engine.Engine.add
    monkeypatch.setattr(
        engine.Engine, "add", lambda self, asks: asked.append(asks.draft) or add(self, asks)
    )
    lm.complete("x = ", max_new_tokens=2)
    lm.complete("x = ", max_new_tokens=2, draft=False)
    lm.generate("x = ", max_new_tokens=2)
    lm.generate("x = ", max_new_tokens=2, draft=True)
    assert asked == [True, False, False, True]


def test_a_closed_stream_gives_the_rest_up(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = lm.generate(PROMPTS[0], max_new_tokens=60)
    steps: list[int] = []
    step = engine.Engine.step
    monkeypatch.setattr(
        engine.Engine, "step", lambda self, passes: steps.append(passes) or step(self, passes)
    )
    pieces = lm.stream(PROMPTS[0], max_new_tokens=60)
    assert whole.startswith(next(pieces))
    pieces.close()  # type: ignore[attr-defined]
    assert len(steps) <= 3
    steps.clear()
    assert lm.generate(PROMPTS[1], max_new_tokens=3)
    assert len(steps) == 1


def test_streams_may_take_turns(lm: LanguageModel) -> None:
    expected = lm.generate(PROMPTS, max_new_tokens=9)
    streams = [lm.stream(prompt, max_new_tokens=9) for prompt in PROMPTS]
    found = ["", ""]
    for pieces in itertools.zip_longest(*streams, fillvalue=""):
        found = [old + new for old, new in zip(found, pieces, strict=True)]
    assert found == expected


def test_ctrl_c_in_the_middle_of_a_step_spoils_nothing(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = lm.generate(PROMPTS[0], max_new_tokens=9)
    beside, real = lm.stream(PROMPTS[1], max_new_tokens=99), engine.decode_steps
    next(beside)

    def press(params: Any, config: Any, cache: Any, *more: Any) -> Any:
        real(params, config, cache, *more)  # takes the cache away
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "decode_steps", press)
    with pytest.raises(KeyboardInterrupt):
        lm.generate(PROMPTS[0], max_new_tokens=9)
    monkeypatch.setattr(engine, "decode_steps", real)
    with pytest.raises(GenerationError, match="the answer was given up"):
        list(beside)
    assert lm.generate(PROMPTS[0], max_new_tokens=9) == expected


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_smaller_caches_answer_nearly_alike(lm: LanguageModel, dtype: str) -> None:
    small_cache = gemkit.load(lm.name, cache_dtype=dtype)
    for _ in range(2):  # a miss, then a hit
        (reply,), = small_cache.answers(LONG, max_new_tokens=6)
        exact = log_probs(lm, LONG, reply.ids)
        np.testing.assert_allclose(reply.log_probs, exact, atol=0.15)
        assert reply.log_probs != pytest.approx(exact, abs=1e-6)
    found, wanted = small_cache.choose(LONG, ["good", "bad"]), lm.choose(LONG, ["good", "bad"])
    np.testing.assert_allclose(found.log_probs, wanted.log_probs, atol=1e-4)


def test_caches_that_cannot_be(lm: LanguageModel) -> None:
    with pytest.raises(UsageError, match="cache_dtype is int4; expected one of float32, bfloat16"):
        gemkit.load(lm.name, cache_dtype="int4")
    with pytest.raises(UsageError, match="prefix_bytes is -1"):
        gemkit.load(lm.name, prefix_bytes=-1)


def test_a_constraint_that_fails_ends_its_answer_only(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = lm.generate(PROMPTS[0], max_new_tokens=9)
    beside = lm.stream(PROMPTS[0], max_new_tokens=9)
    first = next(beside)

    def fail(self: Any, answer: Any) -> Any:
        raise GenerationError("the constraint cannot be followed")

    monkeypatch.setattr("gemkit.text.constrain.Constraint.after", fail)
    with pytest.raises(GenerationError, match="the constraint cannot be followed"):
        lm.generate(PROMPTS[1], regex="a+", max_new_tokens=STREAM_STEPS)
    assert first + "".join(beside) == expected
