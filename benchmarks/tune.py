"""LoRA tuning: tokens per second that carry text, on short examples and on full rows."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
from measure import Row, Seconds, compared, interleave, rates
from models import DTYPES, Size, random_ids, weights
from rivals import (
    DECAY,
    KERAS,
    LEARNING_RATE,
    PEFT,
    RANK,
    installed,
    keras_step,
    peft_model,
    peft_step,
)

from gemkit.adapt.lora import ALL_LINEAR, Lora, init_adapter
from gemkit.model.weights import Params
from gemkit.train.optimizer import OptimizerSettings, make_optimizer
from gemkit.train.packing import Example, choose_shape, epoch_batches
from gemkit.train.step import init_state, make_train_step

EXAMPLES = 240
QUERY_VALUE = ("q", "v")


@dataclass(frozen=True)
class Work:
    """What one kind of example is: tokens, how many of them carry loss, tokens a step here."""

    name: str
    text: int
    targets: int
    batch_tokens: int


def run(size: Size) -> list[Row]:
    """Rows for short examples and for full ones; the rivals adapt query and value."""
    short = Work(f"examples of {size.text}", size.text, size.targets, size.batch_tokens)
    full = Work(f"full rows of {size.row}", size.row, size.row - 1, 2 * size.row)
    return [row for work in (short, full) for row in rows_of(work, size)]


def rows_of(work: Work, size: Size) -> list[Row]:
    """gemkit in both dtypes beside each rival's best."""
    params = {dtype: weights(size, dtype) for dtype in DTYPES}
    sides: dict[str, Callable[[], Seconds]] = {}
    tokens: dict[str, float] = {}

    def add(name: str, count: float, side: Callable[[], Seconds]) -> None:
        tokens[name], sides[name] = count, side

    for dtype in DTYPES:
        add(dtype, *ours(work, size, params[dtype], QUERY_VALUE))
    if work.text < size.row:
        add("all", *ours(work, size, params["bfloat16"], ALL_LINEAR))
    if installed(KERAS):
        ids = random_ids(size, 1, work.text)
        step = keras_step(size.config, params["float32"], ids, work.targets, size.row)
        add(KERAS, work.text, step)
    batches = [n for n in size.rival_batches if n * work.text <= 4 * size.row]
    if installed(PEFT):
        for dtype in DTYPES:
            model = peft_model(size.config, params["float32"], dtype)
            for batch in batches:
                ids = random_ids(size, batch, work.text)
                add(f"{PEFT} {dtype} {batch}", ids.size, peft_step(model, ids, work.targets))
    first, found = interleave(sides, size.rounds)
    speed = {name: rates(tokens[name], found[name]["step"]) for name in sides}
    peft = {dtype: _best(speed, f"{PEFT} {dtype}") for dtype in DTYPES}
    keras = speed.get(KERAS)
    compiled = f"first step with compilation {first['bfloat16']:.1f} s"
    padded = f"{work.text} of {size.row}" if work.text < size.row else "no padding"
    remark = f"{KERAS} in float32, {padded}; {tokens['bfloat16']:.0f} tokens a step; {compiled}"
    batch_list = " or ".join(map(str, batches))
    best = f"{PEFT} in batches of {batch_list} without padding, the best of them"
    against_keras, against_peft = (35, 2.5) if work.text < size.row else (1.4, 1.4)

    def row(what: str, name: str, rival: Any, remark: str, target: float | None = None) -> Row:
        title = f"tune, {work.name}, {what}"
        return compared(title, "tokens/s", speed[name], rival, remark, target)

    return [
        row(f"bfloat16, beside {KERAS}", "bfloat16", keras, remark, against_keras),
        row(f"float32, beside {KERAS}", "float32", keras, "the same weights in float32 on both"),
        row(f"float32, beside {PEFT} float32", "float32", peft["float32"], best, against_peft),
        row(f"bfloat16, beside {PEFT} bfloat16", "bfloat16", peft["bfloat16"], best),
        *(
            [row(f"bfloat16, all linear layers, beside {KERAS}", "all", keras,
                 f"{KERAS} adapts query and value only")] if "all" in sides else []
        ),
    ]  # fmt: skip


def _best(speed: dict[str, list[float]], start: str) -> list[float] | None:
    found = [rounds for name, rounds in speed.items() if name.startswith(start)]
    return max(found, key=statistics.median, default=None)


def ours(
    work: Work, size: Size, params: Params, targets: tuple[str, ...]
) -> tuple[float, Callable[[], Seconds]]:
    """(tokens of text a step, what makes one): packed rows, loss at the targets."""
    marks = [False] * (work.text - work.targets) + [True] * work.targets
    count = EXAMPLES if work.text < size.row else 4
    ids = random_ids(size, count, work.text).tolist()
    examples = [Example(sequence, marks) for sequence in ids]
    rows, length = choose_shape([work.text] * count, work.batch_tokens)
    epoch = epoch_batches(examples, length, rows, seed=0, epoch=0)
    settings = OptimizerSettings(
        learning_rate=LEARNING_RATE, schedule="constant", warmup=0, weight_decay=DECAY,
        clip_norm=None,
    )  # fmt: skip
    rule = make_optimizer(settings, len(epoch))
    lora = Lora(rank=RANK, targets=targets)
    step = make_train_step(size.config, lora, rule)
    state = init_state(init_adapter(size.config, lora, seed=0), rule, seed=0)
    batches = _endless(epoch)

    def steps() -> Seconds:
        nonlocal state
        began = time.perf_counter()
        state, result = step(state, params, next(batches).arrays())
        jax.device_get(result.sums)
        return {"step": time.perf_counter() - began}

    return count * work.text / len(epoch), steps


def _endless(epoch: Any) -> Iterator[Any]:
    while True:
        yield from epoch
