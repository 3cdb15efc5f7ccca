"""The shapes measured, the same random weights in gemkit and KerasHub, and the machine's limits."""

import importlib.util
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.checkpoint.names import cells
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params, flatten, init_params, specs

RIVAL = "KerasHub"


@dataclass(frozen=True)
class Size:
    """How large a run is.

    Attributes:
      config: the model.
      rounds: how often each side is measured.
      starts: how often an interpreter is started.
      row: tokens to which KerasHub's tuning pads, `sequence_length` in the tutorials.
      text: tokens of a text, the end of an example's answer included.
      targets: of these, tokens that carry loss.
      shared: of these, tokens that begin all texts where an instruction is measured.
      batch_tokens: token slots of a step of gemkit's tuning.
      texts: how many gemkit labels.
      rival_batches: batch sizes in which KerasHub labels, 1 among them.
      longest: `max_length` of the tutorials' generation.
      prompt, new: tokens of a prompt and of its answer when decoding.
    """

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


FULL = Size(_gemma1(6, 768, 6144, 256, 256_000))
"""293 million parameters in the layout of Gemma 1."""
QUICK = Size(
    _gemma1(1, 32, 64, 16, 500), rounds=1, starts=1, row=64, text=16, targets=4, shared=10,
    batch_tokens=128, texts=10, rival_batches=(1, 2), longest=24, prompt=8, new=8,
)  # fmt: skip
"""So small that everything runs in seconds; its figures mean nothing."""


def weights(size: Size) -> Params:
    """Random float32 weights, the same in every run."""
    return init_params(size.config, seed=0)


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


def has_rival() -> bool:
    """Whether KerasHub is installed; without it gemkit's side is measured alone."""
    return importlib.util.find_spec("keras_hub") is not None


def rival_model(config: GemmaConfig, params: Params) -> Any:
    """A KerasHub GemmaCausalLM without a preprocessor that carries a copy of `params`.

    Keras keeps its variables in the order of the weights table, which saves a table of names;
    a wrong one would not fit in shape, and decoding compares the answers.
    """
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras_hub

    # Its data loader warns about its own default settings.
    logging.getLogger("absl").setLevel(logging.ERROR)
    backbone = keras_hub.models.GemmaBackbone(
        vocabulary_size=config.vocab_size, num_layers=config.num_layers,
        num_query_heads=config.num_heads, num_key_value_heads=config.num_kv_heads,
        hidden_dim=config.hidden_size, intermediate_dim=2 * config.intermediate_size,
        head_dim=config.head_dim, dtype="float32",
    )  # fmt: skip
    leaves, layouts = dict(flatten(params)), cells(config, "keras")
    for variable, path in zip(backbone.weights, specs(config), strict=True):
        stored = layouts[path].layout.store(leaves[path], config.head_dim)
        # Keras gives its buffers away to each training step; ours must not be among them.
        variable.assign(jnp.array(stored, copy=True))
    model = keras_hub.models.GemmaCausalLM(backbone=backbone, preprocessor=None)
    model.compile(sampler="greedy")
    return model


def rival_inputs(ids: Sequence[Sequence[int]], length: int) -> dict[str, np.ndarray]:
    """What a KerasHub preprocessor would give: ids padded on the right to `length`, and a mask."""
    tokens, mask = np.zeros((2, len(ids), length), np.int32)
    for row, sequence in enumerate(ids):
        tokens[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return {"token_ids": tokens, "padding_mask": mask}


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
