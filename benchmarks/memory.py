"""Peak memory of tuning: random Gemma 2B in bfloat16, LoRA of rank 4, 512 tokens a step.

    python benchmarks/memory.py        the same, at once, as JSON
"""

import json
import resource
import subprocess
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import Row, limited
from models import FULL, Size

from gemkit.adapt.lora import Lora, init_adapter
from gemkit.model.config import GemmaConfig
from gemkit.model.variants import VARIANTS
from gemkit.model.weights import init_params
from gemkit.train.optimizer import OptimizerSettings, make_optimizer
from gemkit.train.plan import Tuning, plan_tuning
from gemkit.train.step import init_state, make_train_step

GIGABYTE = 1e9
LIMIT = 12.0
TOKENS, RANK, STEPS = 512, 4, 2


def run(size: Size) -> list[Row]:
    """A process of its own, as the peak of this one has other causes."""
    quick = [] if size is FULL else ["--quick"]
    done = subprocess.run(
        [sys.executable, __file__, *quick], check=True, stdout=subprocess.PIPE, text=True
    )
    return [row(json.loads(done.stdout.splitlines()[-1]))]


def row(found: dict[str, Any]) -> Row:
    """The line of the table for what `measure` found."""
    plan, step = found["plan"] / GIGABYTE, found["step"] / GIGABYTE
    remark = (
        f"{found['parameters']:,} weights in bfloat16, rank {RANK} on every linear layer, remat "
        f"full, {TOKENS} tokens a step, all with loss; of the whole process; XLA's analysis of the "
        f"step says {step:.2f} GB, gemkit's plan {plan:.2f} GB; "
        f"{min(found['seconds']):.1f} s a step"
    )
    peak = found["peak"] / GIGABYTE
    return limited("tune Gemma 2B, peak memory", "GB", [peak], LIMIT, remark)


def measure(config: GemmaConfig) -> dict[str, Any]:
    """Makes `STEPS` steps; bytes and seconds."""
    lora = Lora(rank=RANK)
    rule = make_optimizer(OptimizerSettings(), STEPS)
    params = init_params(config, seed=0, dtype=jnp.bfloat16)
    state = init_state(init_adapter(config, lora, seed=0), rule, seed=0)
    batch = _batch(config)
    compiled = make_train_step(config, lora, rule, "full").lower(state, params, batch).compile()
    told = compiled.memory_analysis()
    seconds = []
    for _ in range(STEPS):
        began = time.perf_counter()
        state, result = compiled(state, params, batch)
        assert np.isfinite(jax.device_get(result.sums.loss))
        seconds.append(time.perf_counter() - began)
    plan = plan_tuning(Tuning(config=config, itemsize=2, lora=lora, remat="full"))
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)), "seconds": seconds,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "plan": plan.total,
        "step": told.argument_size_in_bytes + told.output_size_in_bytes
        - told.alias_size_in_bytes + told.temp_size_in_bytes,
    }  # fmt: skip


def _batch(config: GemmaConfig) -> dict[str, np.ndarray]:
    """One row of `TOKENS` random tokens, each of which predicts the next."""
    ids = np.random.default_rng(0).integers(300, config.vocab_size, TOKENS + 1, dtype=np.int32)
    places = np.arange(TOKENS, dtype=np.int32)
    return {
        "tokens": ids[None, :-1], "positions": places[None],
        "segments": np.ones((1, TOKENS), np.int32), "target_index": places,
        "target_ids": ids[1:], "target_weights": np.ones(TOKENS, np.float32),
    }  # fmt: skip


if __name__ == "__main__":
    from models import QUICK

    chosen = QUICK.config if "--quick" in sys.argv else VARIANTS["gemma_2b_en"].config
    print(json.dumps(measure(chosen)))
