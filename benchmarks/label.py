"""Labelling short texts: scored labels against generation."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from measure import Row, Seconds, compared, interleave, rates
from models import DTYPES, Limits, Size, body_flops, head_flops, random_ids, weights
from rivals import KERAS, installed, keras_inputs, keras_model

from gemkit.generate.score import score_continuations
from gemkit.model.weights import Params

LABELS = ((301,), (302,))


def run(size: Size) -> list[Row]:
    """Rows for texts of `size.text` tokens and two labels of one token."""
    params = {dtype: weights(size, dtype) for dtype in DTYPES}
    limits = Limits(params["float32"])
    texts = random_ids(size, size.texts, size.text)
    alike = texts.copy()
    alike[:, : size.shared] = texts[0, : size.shared]
    sides: dict[str, Callable[[], Seconds]] = {
        "machine": limits.measure,
        **{dtype: ours(size, params[dtype], texts) for dtype in DTYPES},
        "shared": ours(size, params["bfloat16"], alike),
    }
    if installed(KERAS):
        for dtype in DTYPES:
            model = keras_model(size.config, params["float32"], dtype)
            for batch in size.rival_batches:
                side = theirs(model, texts[:batch], size.text + 1)
                sides[f"stop {dtype} {batch}"] = side
            if dtype == "float32":
                sides["run on"] = theirs(model, texts[:1], size.longest)
    first, found = interleave(sides, size.rounds)
    speed = {name: rates(size.texts, found[name]["all"]) for name in (*DTYPES, "shared")}
    stopped = {
        (dtype, batch): rates(batch, found[f"stop {dtype} {batch}"]["all"])
        for dtype in DTYPES
        for batch in size.rival_batches
        if f"stop {dtype} {batch}" in found
    }
    best = max(stopped.values(), key=lambda each: float(np.median(each)), default=None)
    run_on = rates(1, found["run on"]["all"]) if "run on" in found else None
    full = size.text * body_flops(size.config) + head_flops(size.config)
    shares = [
        rate * full / (limits.flops / seconds)
        for rate, seconds in zip(speed["bfloat16"], found["machine"]["product"], strict=True)
    ]
    one = (
        f"nothing shared between texts; {full / 1e9:.1f} GFLOP a text at this rate are "
        f"{np.median(shares):.0%} of a large float32 product's speed in the same rounds; "
        f"first call {first['bfloat16']:.1f} s with compilation; {KERAS} in float32, one text at "
        "a time as in the tutorials, one token, no room beyond it"
    )
    several = f"{KERAS}'s best; " + ", ".join(
        f"{np.median(each):.2f} texts/s in {dtype} by {batch}"
        for (dtype, batch), each in stopped.items()
    )
    shared_remark = f"the first {size.shared} of {size.text} tokens are the same in all texts"
    endless = f"{KERAS} one text at a time as in the tutorials"
    alone, quick = stopped.get(("float32", 1)), speed["bfloat16"]
    return [
        compared("label, stopping after it", "texts/s", quick, alone, one, 3),
        compared("the same in float32", "texts/s", speed["float32"], alone, "on both sides"),
        compared("the same, batches", "texts/s", quick, best, several),
        compared("the same, shared instruction", "texts/s", speed["shared"], best, shared_remark),
        compared(f"label, up to {size.longest}", "texts/s", quick, run_on, endless, 200),
    ]


def ours(size: Size, params: Params, prompts: np.ndarray) -> Callable[[], Seconds]:
    """Scores both labels for all texts."""
    rows = prompts.tolist()

    def score() -> Seconds:
        began = time.perf_counter()
        score_continuations(params, size.config, rows, LABELS)
        return {"all": time.perf_counter() - began}

    return score


def theirs(model: Any, prompts: np.ndarray, length: int) -> Callable[[], Seconds]:
    """Generates greedily until the buffer of `length` tokens is full."""

    def generate() -> Seconds:
        began = time.perf_counter()
        model.generate(keras_inputs(prompts.tolist(), length), stop_token_ids=None)
        return {"all": time.perf_counter() - began}

    return generate
