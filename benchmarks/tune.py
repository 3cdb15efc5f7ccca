"""LoRA tuning on short examples: tokens per second that carry text."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from measure import Row, Seconds, compared, interleave, rates
from models import RIVAL, Size, has_rival, random_ids, rival_model, weights

from gemkit.adapt.lora import ALL_LINEAR, Lora, init_adapter
from gemkit.model.weights import Params
from gemkit.train.optimizer import OptimizerSettings, make_optimizer
from gemkit.train.packing import Example, choose_shape, epoch_batches
from gemkit.train.step import init_state, make_train_step

EXAMPLES = 240
STEPS = 1
LEARNING_RATE, DECAY = 5e-5, 0.01
RANK = 4
TARGETS = {"query and value": ("q", "v"), "all linear layers": ALL_LINEAR}


def run(size: Size) -> list[Row]:
    """One row for each choice of adapted matrices; the rival adapts query and value."""
    params = weights(size)
    sides: dict[str, Callable[[], Seconds]] = {}
    tokens = {}
    for name, targets in TARGETS.items():
        tokens[name], sides[name] = ours(size, params, Lora(rank=RANK, targets=targets))
    if has_rival():
        sides[RIVAL] = theirs(size, params)
    first, found = interleave(sides, size.rounds)
    rival = None
    if RIVAL in found:
        rival = rates(STEPS * size.text, found[RIVAL]["steps"])
    rows = []
    for name in TARGETS:
        own = rates(STEPS * tokens[name], found[name]["steps"])
        remark = f"first step with compilation {first[name]:.1f} s"
        if rival is not None:
            remark += f", {RIVAL} {first[RIVAL]:.1f} s"
        remark += f"; {tokens[name]:.0f} tokens a step; {RIVAL} {size.text} padded to {size.row}"
        at_least = 30 if name == "query and value" else None
        rows.append(compared(f"tune, LoRA on {name}", "tokens/s", own, rival, remark, at_least))
    return rows


def ours(size: Size, params: Params, lora: Lora) -> tuple[float, Callable[[], Seconds]]:
    """(tokens of text a step, what makes `STEPS` steps): packed rows, loss at the targets."""
    marks = [False] * (size.text - size.targets) + [True] * size.targets
    ids = random_ids(size, EXAMPLES, size.text).tolist()
    examples = [Example(sequence, marks) for sequence in ids]
    rows, length = choose_shape([size.text] * EXAMPLES, size.batch_tokens)
    epoch = epoch_batches(examples, length, rows, seed=0, epoch=0)
    settings = OptimizerSettings(
        learning_rate=LEARNING_RATE, schedule="constant", warmup=0, weight_decay=DECAY,
        clip_norm=None,
    )  # fmt: skip
    rule = make_optimizer(settings, len(epoch))
    step = make_train_step(size.config, lora, rule)
    state = init_state(init_adapter(size.config, lora, seed=0), rule, seed=0)
    batches = _endless(epoch)

    def steps() -> Seconds:
        nonlocal state
        began = time.perf_counter()
        for _ in range(STEPS):
            state, result = step(state, params, next(batches).arrays())
            jax.device_get(result.sums)
        return {"steps": time.perf_counter() - began}

    return EXAMPLES * size.text / len(epoch), steps


def _endless(epoch: Any) -> Iterator[Any]:
    while True:
        yield from epoch


def theirs(size: Size, params: Params) -> Callable[[], Seconds]:
    """`fit` as in the tutorials: one padded example a step, AdamW without decay on bias, scale."""
    model = rival_model(size.config, params)
    import keras

    model.backbone.enable_lora(RANK)
    optimizer = keras.optimizers.AdamW(learning_rate=LEARNING_RATE, weight_decay=DECAY)
    optimizer.exclude_from_weight_decay(var_names=["bias", "scale"])
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), optimizer=optimizer,
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy()],
    )  # fmt: skip
    inputs = np.zeros((STEPS, size.row + 1), np.int32)
    inputs[:, : size.text] = random_ids(size, STEPS, size.text)
    mask = np.zeros_like(inputs)
    mask[:, : size.text] = 1
    targets = np.zeros((STEPS, size.row), np.float32)
    targets[:, size.text - 1 - size.targets : size.text - 1] = 1
    given = {"token_ids": inputs[:, :-1], "padding_mask": mask[:, :-1]}

    def steps() -> Seconds:
        began = time.perf_counter()
        model.fit(
            given, inputs[:, 1:], sample_weight=targets, batch_size=1, shuffle=False, verbose=0
        )
        return {"steps": time.perf_counter() - began}

    return steps
