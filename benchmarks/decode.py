"""Decoding one prompt greedily: tokens per second after the first."""

import time
from collections.abc import Callable

import numpy as np
from measure import Row, Seconds, compared, interleave, rates
from models import Limits, Size, random_ids, weights
from rivals import KERAS, installed, keras_inputs, keras_model

from gemkit.answering.answerer import BATCH_STEPS, STREAM_STEPS
from gemkit.generate.engine import Engine
from gemkit.generate.request import Request
from gemkit.model.weights import Params, count_parameters

Answers = dict[str, list[int]]


def run(size: Size) -> list[Row]:
    """Rows for generating and streaming an answer, in both dtypes."""
    return [row for dtype in ("bfloat16", "float32") for row in rows_in(dtype, size)]


def rows_in(dtype: str, size: Size) -> list[Row]:
    """Both sides with weights of one dtype."""
    params = weights(size, dtype)
    limits, answers = Limits(params), Answers()
    sides: dict[str, Callable[[], Seconds]] = {
        "machine": limits.measure,
        "generate": ours(size, params, answers, "generate", BATCH_STEPS),
        "stream": ours(size, params, answers, "stream", STREAM_STEPS),
    }
    if installed(KERAS):
        sides[KERAS] = theirs(size, params, answers, dtype)
    first, found = interleave(sides, size.rounds)
    steps = size.new - 1
    rival = found.get(KERAS, {})
    rival_speed = rates(steps, rival["steps"]) if rival else None
    speed = rates(steps, found["generate"]["steps"])
    read = params["embed"].dtype.itemsize * count_parameters(size.config)
    shares = [
        rate * read / (limits.bytes / seconds)
        for rate, seconds in zip(speed, found["machine"]["read"], strict=True)
    ]
    gigabytes = np.median(speed) * read / 1e9
    remark = (
        f"{gigabytes:.1f} GB/s of weights, {np.median(shares):.0%} of a plain read of memory in "
        f"the same rounds; first call {first['generate']:.1f} s with compilation"
    )
    if rival:
        same = _agreement(answers["generate"], answers[KERAS])
        remark += f"; {KERAS} {first[KERAS]:.1f} s (two calls); first {same} of {size.new} tokens "
        remark += "are the same on both sides"
    return [
        compared(f"decode in {dtype}, after the first", "tokens/s", speed, rival_speed, remark, 1),
        compared(
            f"decode in {dtype}, streaming", "tokens/s", rates(steps, found["stream"]["steps"]),
            rival_speed, f"a look at the text every {STREAM_STEPS} tokens",
        ),
        compared(
            f"decode in {dtype}, prompt of {size.prompt} and {size.new} tokens", "s",
            found["generate"]["whole"], rival.get("whole"), "prefill included",
            lower_is_better=True,
        ),
    ]  # fmt: skip


def ours(
    size: Size, params: Params, answers: Answers, name: str, piece: int
) -> Callable[[], Seconds]:
    """Decodes `piece` tokens at a time."""
    prompt = tuple(random_ids(size, 1, size.prompt)[0].tolist())

    def decode() -> Seconds:
        began = time.perf_counter()
        engine = Engine(params, size.config, slots=1)
        answer = engine.add(Request(prompt, size.new))
        engine.step(1)
        middle = time.perf_counter()
        while engine.running():
            engine.step(piece)
        end = time.perf_counter()
        answers[name] = answer.tokens
        return {"steps": end - middle, "whole": end - began}

    return decode


def theirs(size: Size, params: Params, answers: Answers, dtype: str) -> Callable[[], Seconds]:
    """Generates all tokens, then only the last one of a buffer of the same length.

    The difference is the time of the steps between, without the prefill of the buffer.
    """
    model = keras_model(size.config, params, dtype)
    length = size.prompt + size.new
    start = random_ids(size, 1, size.prompt).tolist()

    def generate(prompt: list[list[int]]) -> tuple[float, list[list[int]]]:
        began = time.perf_counter()
        out = model.generate(keras_inputs(prompt, length), stop_token_ids=None)["token_ids"]
        return time.perf_counter() - began, np.asarray(out).tolist()

    def decode() -> Seconds:
        whole, full = generate(start)
        last, _ = generate([row[:-1] for row in full])
        answers[KERAS] = full[0][size.prompt :]
        return {"steps": whole - last, "whole": whole}

    return decode


def _agreement(a: list[int], b: list[int]) -> int:
    """How many tokens both begin with."""
    differing = (i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)
    return next(differing, len(a))
