"""The shapes measured, their random weights, and the machine's limits."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.model.config import GemmaConfig
from gemkit.model.variants import VARIANTS
from gemkit.model.weights import Params, init_params, specs


@dataclass(frozen=True)
class Size:
    """How large a run is.

    Attributes:
      name: short, for tables.
      config: the model.
      rounds: how often each side is measured.
      starts: how often an interpreter is started.
      row: tokens to which KerasHub's tuning pads, `sequence_length` in the tutorials.
      text: tokens of a text, the end of an example's answer included.
      targets: of these, tokens that carry loss.
      shared: of these, tokens that begin all texts where an instruction is measured.
      batch_tokens: token slots of a step of gemkit's tuning.
      texts: how many gemkit labels.
      rival_batches: batch sizes in which the rivals work, 1 among them.
      longest: `max_length` of the tutorials' generation.
      prompt, new: tokens of a prompt and of its answer when decoding.
    """

    name: str
    config: GemmaConfig
    rounds: int = 3
    starts: int = 9
    row: int = 512
    text: int = 40
    targets: int = 8
    shared: int = 20
    batch_tokens: int = 1024
    texts: int = 100
    rival_batches: tuple[int, ...] = (1, 8, 32)
    longest: int = 256
    prompt: int = 32
    new: int = 64


def _gemma1(layers: int, width: int, ffw: int, head: int, vocabulary: int) -> GemmaConfig:
    return GemmaConfig(
        num_layers=layers, hidden_size=width, intermediate_size=ffw, num_heads=4, num_kv_heads=1,
        head_dim=head, vocab_size=vocabulary, query_scale=head**-0.5,
    )  # fmt: skip


FULL = Size("293M", _gemma1(6, 768, 6144, 256, 256_000))
"""293 million parameters in the layout of Gemma 1."""
QUICK = Size(
    "tiny", _gemma1(1, 32, 64, 16, 500), rounds=1, starts=1, row=64, text=16, targets=4, shared=10,
    batch_tokens=128, texts=10, rival_batches=(1, 2), longest=24, prompt=8, new=8,
)  # fmt: skip
"""So small that everything runs in seconds; its figures mean nothing."""


DTYPES = ("bfloat16", "float32")
"""Of gemkit's weights, where both are measured; the one it is used in first."""

LARGE = Size("Gemma 2B", VARIANTS["gemma_2b_en"].config, rounds=1, texts=2, new=24)
"""Gemma 2B, in bfloat16 only: 5 GB."""


def weights(size: Size, dtype: str = "float32") -> Params:
    """Random weights, the same in every run."""
    return init_params(size.config, seed=0, dtype=jnp.dtype(dtype))


def random_ids(size: Size, rows: int, length: int) -> np.ndarray:
    """[rows, length] token ids, none of them a control token; row by row the same in every run."""
    draw = np.random.default_rng(length)
    return draw.integers(300, size.config.vocab_size, (rows, length), dtype=np.int32)


def body_flops(config: GemmaConfig) -> int:
    """Floating point operations of the layers' matrices per token: two per weight."""
    return 2 * sum(spec.size for spec in specs(config).values() if spec.linear)


def head_flops(config: GemmaConfig) -> int:
    """Floating point operations of the logits of one position."""
    return 2 * config.vocab_size * config.hidden_size


class Limits:
    """What the machine gives at this moment: a large matrix product and a read of memory."""

    def __init__(self, params: Params) -> None:
        self._side = 2048 if params["embed"].size > 2**24 else 128
        self._matrix = jnp.ones((self._side, self._side), jnp.float32)
        self._tall = jnp.ones((4 * self._side, self._side), jnp.float32)
        self._product = jax.jit(jnp.matmul)
        # A copy: numpy's view of an array of JAX's would do, but only where it is on the host.
        self._parts = np.array_split(np.array(params["embed"]).reshape(-1), os.cpu_count() or 1)
        self.flops = 2 * 4 * self._side**3
        self.bytes = params["embed"].size * 4

    def measure(self) -> dict[str, float]:
        """Seconds of `flops` in one product and of reading `bytes` on all cores."""
        began = time.perf_counter()
        self._product(self._tall, self._matrix).block_until_ready()
        middle = time.perf_counter()
        with ThreadPoolExecutor(len(self._parts)) as pool:
            list(pool.map(np.max, self._parts))
        return {"product": middle - began, "read": time.perf_counter() - middle}
