"""The engine against itself: batch 8 and 1, a prefix hit and a miss, drafts and none."""

import time
from collections.abc import Callable

from measure import Row, Seconds, beside, interleave, rates
from models import Size, random_ids, weights

from gemkit.generate.engine import Engine
from gemkit.generate.prefix import PrefixCache
from gemkit.generate.request import Request
from gemkit.model.weights import Params

BATCH = 8
PREFIX, REST = 1024, 6
REPEATS = 4


def run(size: Size) -> list[Row]:
    """Rows for batches, prefixes and drafts."""
    params = weights(size)
    sides: dict[str, Callable[[], Seconds]] = {
        "one": batch(size, params, 1), "batch": batch(size, params, BATCH),
        "prefix": prefix(size, params), "plain": quoting(size, params, False),
        "draft": quoting(size, params, True),
    }  # fmt: skip
    _, found = interleave(sides, size.rounds)
    steps = size.new - 1
    one, many = rates(steps, found["one"]["steps"]), rates(BATCH * steps, found["batch"]["steps"])
    quoted = {name: rates(size.new, found[name]["whole"]) for name in ("plain", "draft")}
    return [
        beside(f"batch {BATCH} beside batch 1", "tokens/s", many, one, "the same engine", 3),
        beside(
            f"first token, {PREFIX} of {PREFIX + REST} tokens read before", "s",
            found["prefix"]["hit"], found["prefix"]["miss"], "beside nothing read before", 15,
            lower_is_better=True,
        ),
        beside(
            "prompt lookup, random weights", "tokens/s", quoted["draft"], quoted["plain"],
            f"a prompt of {REPEATS} repeats; what a tuned model gains is not measured here",
        ),
    ]  # fmt: skip


def batch(size: Size, params: Params, rows: int) -> Callable[[], Seconds]:
    """Answers `rows` prompts at once; the time after the first tokens."""
    prompts = random_ids(size, rows, size.prompt).tolist()

    def decode() -> Seconds:
        engine = Engine(params, size.config, slots=rows)
        answers = [engine.add(Request(tuple(prompt), size.new)) for prompt in prompts]
        while not all(answer.tokens for answer in answers):
            engine.step(1)
        began = time.perf_counter()
        while engine.running():
            engine.step()
        return {"steps": time.perf_counter() - began}

    return decode


def prefix(size: Size, params: Params) -> Callable[[], Seconds]:
    """The first token of a prompt, then of another one that starts alike."""
    start, rests = random_ids(size, 1, PREFIX)[0].tolist(), random_ids(size, 2, REST).tolist()

    def first() -> Seconds:
        engine = Engine(params, size.config, slots=1, prefixes=PrefixCache())

        def seconds(rest: list[int]) -> float:
            began = time.perf_counter()
            answer = engine.add(Request((*start, *rest), 4))
            while not answer.tokens:
                engine.step(1)
            took = time.perf_counter() - began
            engine.cancel(answer)
            return took

        return {"miss": seconds(rests[0]), "hit": seconds(rests[1])}

    return first


def quoting(size: Size, params: Params, draft: bool) -> Callable[[], Seconds]:
    """Continues a text that repeats itself."""
    prompt = random_ids(size, 1, size.prompt)[0].tolist() * REPEATS

    def decode() -> Seconds:
        engine = Engine(params, size.config, slots=1)
        began = time.perf_counter()
        engine.add(Request(tuple(prompt), size.new, draft=draft))
        while engine.running():
            engine.step()
        return {"whole": time.perf_counter() - began}

    return decode
