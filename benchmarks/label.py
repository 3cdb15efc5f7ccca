"""Labelling short texts: scored labels against generation."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from measure import Row, Seconds, compared, interleave, rates
from models import (
    RIVAL,
    Limits,
    Size,
    body_flops,
    has_rival,
    head_flops,
    random_ids,
    rival_inputs,
    rival_model,
    weights,
)

from gemkit.generate.score import score_continuations
from gemkit.model.weights import Params

LABELS = ((301,), (302,))


def run(size: Size) -> list[Row]:
    """Rows for texts of `size.text` tokens and two labels of one token."""
    params = weights(size)
    limits = Limits(params)
    texts = random_ids(size, size.texts, size.text)
    alike = texts.copy()
    alike[:, : size.shared] = texts[0, : size.shared]
    sides: dict[str, Callable[[], Seconds]] = {
        "machine": limits.measure,
        "apart": ours(size, params, texts),
        "shared": ours(size, params, alike),
    }
    if has_rival():
        model = rival_model(size.config, params)
        for batch in size.rival_batches:
            sides[f"stop {batch}"] = theirs(model, texts[:batch], size.text + 1)
        sides["run on"] = theirs(model, texts[:1], size.longest)
    first, found = interleave(sides, size.rounds)
    speed = {name: rates(size.texts, found[name]["all"]) for name in ("apart", "shared")}
    stopped = {
        batch: rates(batch, found[f"stop {batch}"]["all"])
        for batch in size.rival_batches
        if f"stop {batch}" in found
    }
    best = max(stopped.values(), key=lambda each: float(np.median(each)), default=None)
    run_on = rates(1, found["run on"]["all"]) if "run on" in found else None
    full = size.text * body_flops(size.config) + head_flops(size.config)
    shares = [
        rate * full / (limits.flops / seconds)
        for rate, seconds in zip(speed["apart"], found["machine"]["product"], strict=True)
    ]
    one = (
        f"nothing shared between texts; {full / 1e9:.1f} GFLOP a text at this rate are "
        f"{np.median(shares):.0%} of a large matrix product's speed in the same rounds; "
        f"first call {first['apart']:.1f} s with compilation; {RIVAL} one text at a time as in "
        "the tutorials, one token, no room beyond it"
    )
    several = f"{RIVAL}'s best; " + ", ".join(
        f"{np.median(each):.2f} texts/s by {batch}" for batch, each in stopped.items()
    )
    shared_remark = f"the first {size.shared} of {size.text} tokens are the same in all texts"
    endless = f"{RIVAL} one text at a time as in the tutorials"
    apart = speed["apart"]
    return [
        compared("label, stopping after it", "texts/s", apart, stopped.get(1), one, 3),
        compared("the same, batches", "texts/s", apart, best, several),
        compared("the same, shared instruction", "texts/s", speed["shared"], best, shared_remark),
        compared(f"label, up to {size.longest}", "texts/s", apart, run_on, endless, 200),
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
        model.generate(rival_inputs(prompts.tolist(), length), stop_token_ids=None)
        return {"all": time.perf_counter() - began}

    return generate
