"""The engine against the slow loop: whatever joins, leaves, drafts, is reused or constrained."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from slow import GREEDY, slow, slow_scored
from tiny import CONFIGS, GEMMA1, GEMMA2, GEMMA3, VOCABULARY, full_logits, ids, log_softmax, weights

from gemkit.errors import GenerationError, UsageError
from gemkit.generate.decode import FIRST, prefill
from gemkit.generate.draft import DRAFT, PAUSE, TRIAL, Pace, propose
from gemkit.generate.engine import Engine
from gemkit.generate.prefix import PrefixCache
from gemkit.generate.request import Answer, Request
from gemkit.generate.sampling import Sampling
from gemkit.model.cache import cache_bytes

every_config = pytest.mark.parametrize("name", CONFIGS)
SAMPLED = Sampling(temperature=1.3, top_k=30, seed=5)
PENALISED = Sampling(
    temperature=0.9, repetition_penalty=1.2, presence_penalty=0.3, frequency_penalty=0.2,
    banned=(9,), logit_bias={12: 1.5}, seed=8,
)  # fmt: skip
REPEATING = ids(6) * 4


def started(name: str, prefixes: bool = False, **settings: Any) -> Engine:
    """Of four rows at once, so that few programs are compiled; they may be fewer with least=1."""
    cache = PrefixCache(block=4) if prefixes else None
    return Engine(
        weights(CONFIGS[name]), CONFIGS[name], **{"slots": 4, "least": 4, **settings},
        prefixes=cache,
    )  # fmt: skip


def run(engine: Engine, passes: int = 5) -> None:
    turns = 0
    while engine.running():
        engine.step(passes)
        turns += 1
        assert turns < 500


def answered(requests: Sequence[Request], engine: Engine) -> list[list[int]]:
    answers = [engine.add(request) for request in requests]
    run(engine)
    return [answer.tokens for answer in answers]


def expected(name: str, request: Request) -> list[int]:
    found = slow(
        CONFIGS[name], request.prompt, request.limit, request.stop_ids, request.sampling
    )  # fmt: skip
    return found


@every_config
def test_requests_that_join_and_leave_at_any_step(name: str, small_pieces: None) -> None:
    """Ragged prompts, up to four pieces long, on four slots; two answers are cancelled."""
    draw, engine = np.random.default_rng(4), started(name, prefixes=True)
    settings = (GREEDY, SAMPLED, PENALISED)
    requests = [
        Request(
            tuple(ids(int(draw.integers(1, 33)), n)), int(draw.integers(1, 25)),
            stop_ids=(n,), sampling=settings[n % 3], draft=bool(draw.integers(2)),
        )
        for n in range(9)
    ]  # fmt: skip
    waiting, answers = list(requests), list[Answer]()
    turns = 0
    while waiting or engine.running():
        for _ in range(min(len(waiting), int(draw.integers(3)))):
            answers.append(engine.add(waiting.pop(0)))
        engine.step(int(draw.integers(1, 6)))
        turns += 1
        if turns == 6:
            for answer in answers[2:4]:
                engine.cancel(answer)
    for request, answer in zip(requests, answers, strict=True):
        whole = expected(name, request)
        if answer.ended == "cancelled":
            assert answer.tokens == whole[: len(answer.tokens)]
        else:
            assert answer.tokens == whole
            assert answer.ended == ("limit" if len(whole) == request.limit else "stop")
    assert {answer.ended for answer in answers} >= {"limit", "cancelled"}


@every_config
def test_drafts_change_nothing(name: str, small_pieces: None) -> None:
    """A text that repeats itself, answered past window and ring in three ways, beside another."""
    settings = (GREEDY, Sampling(temperature=0.4, seed=2), PENALISED)
    requests = [Request(tuple(REPEATING), 36, sampling=sampling) for sampling in settings]
    requests.append(Request((5, 6), 30))
    drafting = [dataclasses.replace(request, draft=True) for request in requests]
    plain = answered(requests, started(name))
    assert answered(drafting, started(name)) == plain
    assert plain == [expected(name, request) for request in requests]


@every_config
def test_a_few_tokens_need_no_piece(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to `FIRST` are read by the pass that makes the first token, unless they are scored."""
    pieces: list[list[int]] = []

    def recorded(*given: Any) -> Any:
        pieces.append(given[5].tolist())
        return prefill(*given)

    monkeypatch.setattr("gemkit.generate.engine.prefill", recorded)
    requests = [
        Request((7,), 9, sampling=SAMPLED), Request(tuple(ids(FIRST)), 9, draft=True),
        Request(tuple(ids(FIRST - 3)), 9, sampling=PENALISED),
        Request(tuple(ids(FIRST + 1)), 9, draft=True),
    ]  # fmt: skip
    engine = started(name)
    assert answered(requests, engine) == [expected(name, request) for request in requests]
    assert pieces == [[FIRST]]
    answered([Request(tuple(ids(5)), 1, prompt_log_probs=True)], engine)
    assert pieces == [[FIRST], [4]]


def test_drafts_are_accepted() -> None:
    """Forced to repeat by a bias, the answer takes fewer passes than tokens."""
    cycle = Sampling(logit_bias={7: 1000.0})
    request = Request((7, 7, 7, 7), 40, sampling=cycle, draft=True)
    engine = started("gemma1")
    answer = engine.add(request)
    engine.step(6)
    assert len(answer.tokens) > 12
    run(engine)
    assert answer.tokens == [7] * 40


@pytest.mark.parametrize(("agreeing", "count"), [(1, 0), (2, TRIAL), (5, TRIAL), (6, DRAFT)])
def test_the_more_agrees_the_more_is_drafted(agreeing: int, count: int) -> None:
    text = list(range(11, 30))
    history = jnp.asarray([[*text, 5, *text[:agreeing]]])
    guess, found = propose(history, jnp.asarray([history.shape[1] - 1]), DRAFT)
    assert found.tolist() == [count]
    assert guess[0, :count].tolist() == text[agreeing:][:count]


def test_drafting_pauses_where_it_does_not_pay() -> None:
    pace = Pace()
    while pace.drafts():
        pace.made(tokens=4, passes=4, accepted=0)
    assert pace.pause == PAUSE
    pace.made(tokens=PAUSE, passes=0, accepted=0)
    assert pace.drafts()
    for _ in range(20):
        pace.made(tokens=16, passes=4, accepted=12)
    assert pace.drafts()


@every_config
def test_a_prefix_hit_is_a_miss(name: str, small_pieces: None) -> None:
    config, start, engine = CONFIGS[name], ids(21, 9), started(name, prefixes=True)
    requests = [
        Request(tuple([*start, *ids(5, 1)]), 12), Request(tuple([*start, *ids(2, 2)]), 12),
        Request(tuple(start), 12, sampling=SAMPLED), Request(tuple(start[:20]), 6),
    ]  # fmt: skip
    wanted = [expected(name, request) for request in requests]
    assert answered(requests[:1], engine) == wanted[:1]
    reads: list[int] = []
    read_piece = engine._read_piece
    engine._read_piece = lambda group: (  # type: ignore[method-assign]
        reads.extend(row.unread for _, row in group), read_piece(group)
    )[1]  # fmt: skip
    assert answered(requests, engine) == wanted
    assert not reads  # what is left is read with the first pass
    # A turn of a chat finds the answer before it, too.
    turn = Request(requests[0].prompt + tuple(wanted[0]) + (5,), 8)
    reads.clear()
    assert answered([turn], engine) == [expected(name, turn)]
    assert sum(reads) <= 8 if "local" not in config.layer_kinds else sum(reads) < 38


def test_prompts_that_start_alike_are_read_once(small_pieces: None) -> None:
    engine = started("gemma3", prefixes=True)
    requests = [
        Request(tuple(ids(17)), 9, sampling=dataclasses.replace(SAMPLED, seed=seed))
        for seed in range(4)
    ]
    found = answered(requests, engine)
    assert found == [expected("gemma3", request) for request in requests]
    assert len({tuple(answer) for answer in found}) > 1


def test_the_prefix_cache_keeps_to_its_budget() -> None:
    block = [np.zeros(25, np.float32)]
    cache = PrefixCache(budget=350, block=2)
    one, two = cache.keys([1, 2, 3, 4, 5, 6, 7, 8]), cache.keys([9, 9, 8, 8])
    assert [cache.put(one[: n + 1], block) for n in range(4)] == [True, True, True, False]
    assert (cache.match(one), cache.nbytes) == (3, 300)
    assert cache.put(two[:1], block) and cache.match(one) == 2
    assert not cache.put([b"absent", b"rest"], block)
    cache.touch(one[:2])
    assert cache.put(two[:1], block) and cache.put(one[:1], block)
    assert cache.put(cache.keys([0, 0]), block)
    assert (cache.match(two), cache.match(one), cache.nbytes) == (1, 1, 300)


def test_log_probabilities_of_prompt_forced_tokens_and_answer(small_pieces: None) -> None:
    prompt, forced = ids(19), (11, 13)
    request = Request(
        tuple(prompt), 9, sampling=Sampling(forced=forced), prompt_log_probs=True
    )  # fmt: skip
    other = Request(tuple(ids(9, 3)), 6, sampling=Sampling(forced=(4,)))
    engine = started("gemma2", prefixes=True)
    answers = [engine.add(request), engine.add(other), engine.add(request)]
    run(engine)
    for answer, asked in zip(answers, (request, other, request), strict=True):
        tokens, log_probs = slow_scored(
            GEMMA2, asked.prompt, asked.limit, sampling=asked.sampling
        )  # fmt: skip
        assert answer.tokens == tokens
        assert answer.log_probs == pytest.approx(log_probs, abs=2e-4)
    exact = log_softmax(full_logits(weights(GEMMA2), GEMMA2, prompt))
    wanted = [exact[place, token] for place, token in enumerate(prompt[1:])]
    assert answers[0].prompt_log_probs == pytest.approx(wanted, abs=2e-4)
    assert answers[2].prompt_log_probs == pytest.approx(wanted, abs=2e-4)
    assert answers[1].prompt_log_probs == []


def test_forced_tokens_count_as_answer() -> None:
    for limit in (1, 2, 3):
        request = Request((5, 6), limit, sampling=Sampling(forced=(11, 13)))
        assert answered([request], started("gemma1")) == [expected("gemma1", request)]


def test_constrained_beside_free(small_pieces: None) -> None:
    """Only odd tokens, then none after three: the answer ends as at a stop."""
    asked: list[int] = []

    def allowed(tokens: Sequence[int]) -> np.ndarray:
        asked.append(len(tokens))
        return (np.arange(VOCABULARY) % 2 == 1) & (len(tokens) < 3)

    engine = started("gemma3")
    free = Request(tuple(ids(9)), 8, draft=True)
    bound = engine.add(Request(tuple(ids(7, 1)), 9, allowed=allowed))
    answers = answered([free], engine)
    assert answers == [expected("gemma3", free)]
    assert (bound.ended, len(bound.tokens), asked) == ("stop", 3, [0, 1, 2, 3])
    assert all(token % 2 for token in bound.tokens)


@every_config
def test_eight_bits_answer_nearly_alike(name: str, small_pieces: None) -> None:
    """Greedy tokens of an int8 cache are among the likeliest by a small margin."""
    config = CONFIGS[name]
    engine, prompt = started(name, True, least=1, dtype="int8"), ids(20)
    for _ in range(2):
        tokens = answered([Request(tuple(prompt), 10)], engine)[0]
        logits = full_logits(weights(config), config, prompt + tokens)[len(prompt) - 1 : -1]
        margin = logits.max(-1) - logits[np.arange(10), tokens]
        assert (margin < 0.2 * logits.std()).all()
    assert engine.cache_bytes == cache_bytes(config, 1, 64, 1)


def test_a_long_prompt_lets_the_others_go_on(small_pieces: None) -> None:
    engine = started("gemma1")
    short = engine.add(Request((5, 6, 7), 40))
    engine.step(1)
    long = engine.add(Request(tuple(ids(48)), 2))
    for turn in range(4):
        engine.step(2)
        assert (len(short.take()) > 0, long.tokens) == (True, []), turn
    late = engine.add(Request((8, 9), 3))
    engine.step(3)
    engine.step(3)
    assert late.ended == "limit"
    run(engine)
    assert long.tokens == slow(GEMMA1, ids(48), 2)


def test_the_cache_grows_and_shrinks(small_pieces: None) -> None:
    engine = Engine(weights(GEMMA3), GEMMA3, slots=4)
    assert engine.cache_bytes == 0
    many = [Request(tuple(ids(30, n)), 90) for n in range(3)]
    answers = [engine.add(request) for request in many]
    engine.step(1)
    assert engine.cache_bytes == cache_bytes(GEMMA3, 4, 128, 4)
    run(engine)
    assert [len(answer.tokens) for answer in answers] == [90] * 3
    assert answered([Request((5,), 4)], engine) == [slow(GEMMA3, [5], 4)]
    assert engine.cache_bytes == cache_bytes(GEMMA3, 1, 64, 4)


def test_a_long_answer_outgrows_the_room_it_got(
    monkeypatch: pytest.MonkeyPatch, small_pieces: None
) -> None:
    monkeypatch.setattr("gemkit.generate.engine.AHEAD", 4)
    monkeypatch.setattr("gemkit.generate.engine.SHORTEST", 16)
    request = Request(tuple(ids(9)), 50)
    engine = Engine(weights(GEMMA2), GEMMA2, prefixes=PrefixCache(block=4))
    assert answered([request], engine) == [expected("gemma2", request)]


@every_config
def test_streams_are_the_whole(name: str, small_pieces: None) -> None:
    """Past window and ring, beside another answer; then one that is given up."""
    engine, request = started(name), Request(tuple(ids(11)), 23)
    beside = engine.add(Request((5, 6), 9))
    pieces = list(engine.stream(request, 3))
    assert sum(pieces, []) == expected(name, request) and len(pieces) > 3
    assert beside.tokens == slow(CONFIGS[name], [5, 6], 9)
    left = engine.stream(request, 1)
    next(left)
    left.close()
    assert not engine.running()


def test_a_step_that_is_interrupted_spoils_the_next_ones_not(
    monkeypatch: pytest.MonkeyPatch, small_pieces: None
) -> None:
    engine, request = started("gemma1", prefixes=True), Request(tuple(ids(9)), 6)
    answers = [engine.add(request) for _ in range(5)]

    def press(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("gemkit.generate.engine.decode_steps", press)
        run(engine)
    assert {answer.ended for answer in answers} == {"cancelled"}
    assert not engine.running() and engine.cache_bytes == 0
    assert answered([request], engine) == [expected("gemma1", request)]


def test_a_constraint_that_fails_ends_its_answer_only(small_pieces: None) -> None:
    def allowed(tokens: Sequence[int]) -> np.ndarray:
        if len(tokens) == 2:
            raise GenerationError("too complex")
        return np.ones(VOCABULARY, bool)

    engine, free = started("gemma3"), Request(tuple(ids(9)), 8)
    bound = engine.add(Request(tuple(ids(7, 1)), 9, allowed=allowed))
    assert answered([free], engine) == [expected("gemma3", free)]
    assert (bound.ended, len(bound.tokens), str(bound.error)) == ("failed", 2, "too complex")


@pytest.mark.parametrize("request_, error, message", [
    (Request((), 3), GenerationError, "the prompt is empty"),
    (Request(tuple(ids(5000)), 3), GenerationError, "the prompt is 5000 tokens long"),
    (Request((5,), 3, sampling=Sampling(banned=(97,))), UsageError, "banned holds token 97"),
])  # fmt: skip
def test_what_cannot_be_asked(
    request_: Request, error: type[Exception], message: str
) -> None:
    engine = Engine(weights(GEMMA1), GEMMA1)
    with pytest.raises(error, match=message):
        engine.add(request_)
    assert not engine.running()


def test_nothing_to_make() -> None:
    engine = Engine(weights(GEMMA1), GEMMA1)
    full = engine.add(Request(tuple(ids(4096)), 5))
    none = engine.add(Request((5,), 0))
    assert (full.ended, none.ended, engine.running()) == ("limit", "limit", False)
    engine.step()
    gone = engine.add(Request((5,), 9))
    engine.cancel(gone)
    engine.cancel(none)
    assert (gone.ended, none.ended, engine.running()) == ("cancelled", "limit", False)
