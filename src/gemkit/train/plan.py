"""What a model will take in memory, said before it is run or tuned: sums over the weights table.

Weights, gradients, the optimizer's memory and the cache are exact. What a compiled program needs
beside them is an estimate: how many vectors of each width it holds for a token, as XLA:CPU's own
analysis tells for programs of many shapes. An accelerator's compiler needs less.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from gemkit.adapt.lora import Lora, count_adapter
from gemkit.adapt.quantize import quantized_bytes
from gemkit.model.cache import PIECE, cache_bytes
from gemkit.model.config import GemmaConfig
from gemkit.model.transformer import Remat
from gemkit.model.weights import count_parameters, specs
from gemkit.train.loss import CHUNK_ELEMENTS

Verdict = Literal["fits", "tight", "too large"]


class Vectors(NamedTuple):
    """Vectors held for a token in a layer, by width: F, D, heads (N + 2K) * H, scores N * S."""

    ffw: float
    width: float
    heads: float
    scores: float


class Needs(NamedTuple):
    """What a program holds beside its arguments, in vectors of float32.

    Attributes:
      kept: from the forward to the backward pass in every layer, without rematerialisation.
      working: inside the one layer whose activations are computed again.
      attention, ffw: inside a layer's halves where no backward pass follows.
      logits: copies of a chunk of logits.
    """

    kept: Vectors
    working: Vectors
    attention: Vectors
    ffw: Vectors
    logits: float


# Of weights in 4 bytes and in fewer.
FLOAT32 = Needs(
    kept=Vectors(6.3, 4.5, 1.9, 3), working=Vectors(10, 6.2, 1.8, 1.9),
    attention=Vectors(0, 1, 0, 2), ffw=Vectors(3, 1, 0, 0), logits=2.1,
)  # fmt: skip
BFLOAT16 = Needs(
    kept=Vectors(4, 5.7, 1.8, 3), working=Vectors(4.8, 7, 2.9, 3),
    attention=Vectors(0, 2, 0, 2), ffw=Vectors(2, 2, 0, 0), logits=2.4,
)  # fmt: skip
# Weights of 2 bytes that the native kernels multiply as they lie.
NATIVE = Needs(
    kept=Vectors(3.1, 4.6, 1.5, 2.6), working=Vectors(3.2, 8, 2.9, 2.1),
    attention=Vectors(0, 2, 0, 3), ffw=Vectors(2, 2, 0, 0), logits=2.2,
)  # fmt: skip
LAYER = Vectors(2, 1, 0.5, 0)
"""Kept by remat "layer", in the weights' dtype."""
FULL = Vectors(0, 1, 0, 0)
"""Kept by remat "full", in the weights' dtype."""
OPTIMIZER_TREES = {"adamw": 2, "keras_adamw": 2, "sgd": 0, "adafactor": 0.01}
"""Trees as large as the trained one that an optimizer keeps; two for one that is unknown."""
ACCURACY = (0.8, 1.3)
"""Plan over XLA's own analysis: between these in the tests."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Bytes held at the same time when a step or an answer takes most.

    Attributes:
      weights: that a step reads, the adapter included.
      gradients: of what is trained.
      optimizer: its memory, and the moving average.
      activations: kept for the backward pass, and the layer being computed.
      copies: of bfloat16 and quantised weights in what a CPU multiplies with.
      logits: of the positions computed at once.
      cache: keys and values.
      spare: of what is trained, the best state so far and what full tuning started from.
    """

    weights: int
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    copies: int = 0
    logits: int = 0
    cache: int = 0
    spare: int = 0

    @property
    def total(self) -> int:
        """All parts."""
        return sum(dataclasses.astuple(self))

    def parts(self) -> dict[str, int]:
        """Part → bytes, those that are not zero."""
        return {name: size for name, size in dataclasses.asdict(self).items() if size}

    def verdict(self, free: int, held: int = 0) -> Verdict:
        """Whether it fits into `free` bytes; `held` of the plan are in memory already.

        Estimates near the limit are `tight`: too large is what is so even if the plan is as far
        off as it may be.
        """
        needed = self.total - held
        if needed <= 0.9 * free:
            return "fits"
        return "too large" if needed / ACCURACY[1] > free else "tight"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuning:
    """What decides the memory of tuning.

    Attributes:
      config: of the model.
      itemsize: bytes of a weight.
      lora: of the adapter; None trains all weights.
      optimizer: its name.
      batch_tokens: token slots of a batch.
      row_length: tokens of a row; None is one row of all slots, up to the model's context.
      targets: positions with loss; None is all slots.
      remat: see `model.transformer.hidden`.
      ema: whether a moving average is kept.
      quantize: int8 or int4 base, None as stored.
      platform: JAX's name of the device.
      kernels: whether it has ours, which multiply bfloat16 as it lies there and write no logits
        where a plain table is frozen.
    """

    config: GemmaConfig
    itemsize: int = 4
    lora: Lora | None = None
    optimizer: str = "adamw"
    batch_tokens: int = 512
    row_length: int | None = None
    targets: int | None = None
    remat: Remat = "off"
    ema: bool = False
    quantize: str | None = None
    platform: str = "cpu"
    kernels: bool = False


def plan_tuning(given: Tuning) -> Plan:
    """The memory of a training step.

    >>> from gemkit.model.variants import GEMMA_2B
    >>> plan = plan_tuning(Tuning(config=GEMMA_2B, itemsize=2, lora=Lora(rank=4), remat="full"))
    >>> round(plan.weights / 2**30, 2), plan.total < 12e9
    (4.71, True)
    """
    config, lora, slots = given.config, given.lora, given.batch_tokens
    base = base_bytes(config, given.itemsize, given.quantize)
    count = count_parameters(config) if lora is None else count_adapter(config, lora)
    trained = count * (given.itemsize if lora is None else 4)
    average = 4 * count if given.ema else 0
    spare = trained if given.platform == "cpu" else 0
    spare += base if lora is None else 0
    row = given.row_length or min(slots, config.max_positions)
    needs = _needs(given.itemsize, given.quantize, given.kernels)
    logits = 0
    if lora is None or given.quantize is not None or not given.kernels:
        logits = _logits(config, min(given.targets or slots, slots), needs.logits)
    if lora is None:  # the table's gradient, added up in float32
        logits += 4 * config.vocab_size * config.hidden_size
    held, inside = config.num_layers * _vectors(config, needs.kept, slots, row, 4), 0
    if given.remat != "off":
        size = min(given.itemsize, 4)
        kept = LAYER if given.remat == "layer" else FULL
        held = config.num_layers * _vectors(config, kept, slots, row, size)
        inside = _vectors(config, needs.working, slots, row, 4)
    # What comes later takes the room of what is gone: a layer that of the logits, and gradients
    # that of the layers above.
    inside = max(inside - logits, 0)
    gone = trained if lora is None else 0
    activations = max(inside, held + inside - gone)
    return Plan(
        weights=trained if lora is None else base + trained, gradients=trained,
        optimizer=int(OPTIMIZER_TREES.get(given.optimizer, 2) * trained) + average,
        activations=activations, copies=_copies(given), logits=logits, spare=spare,
    )  # fmt: skip


def plan_running(
    config: GemmaConfig, itemsize: int = 4, lora: Lora | None = None, rows: int = 1,
    length: int | None = None, quantize: str | None = None, platform: str = "cpu",
    kernels: bool = False,
) -> Plan:  # fmt: skip
    """The memory of answering `rows` texts of up to `length` tokens, by default the context."""
    length = config.max_positions if length is None else length
    adapter = 0 if lora is None else 4 * count_adapter(config, lora)
    piece, size = min(PIECE, length), max(2, itemsize)
    needs = _needs(itemsize, quantize, kernels)
    copied = _copied_bytes(itemsize, quantize, platform, kernels)
    return Plan(
        weights=base_bytes(config, itemsize, quantize) + adapter,
        activations=max(
            _vectors(config, half, rows * piece, length, 4) for half in (needs.attention, needs.ffw)
        ),
        copies=copied * _layer_weights(config),
        logits=_logits(config, rows, 1), cache=cache_bytes(config, rows, length, size),
    )  # fmt: skip


def advice(given: Tuning) -> Iterator[tuple[str, Plan]]:
    """(what to change, the plan then), what saves most first.

    Fewer bytes a weight go with recomputing: copies on a CPU may else take more than they save.
    """
    now = plan_tuning(given).total
    changes: dict[str, dict[str, Any]] = {
        "fewer batch tokens": {"batch_tokens": max(64, given.batch_tokens // 2)},
        "remat full": {"remat": "full"},
        "bfloat16 and remat full": {"itemsize": 2, "remat": "full"},
    }
    if given.lora is None:
        changes["LoRA instead of all weights"] = {"lora": Lora()}
    else:
        changes["LoRA on q and v only"] = {
            "lora": dataclasses.replace(given.lora, targets=("q", "v"))
        }
        changes["quantize int8 and remat full"] = {"quantize": "int8", "remat": "full"}
    plans = [(name, plan_tuning(dataclasses.replace(given, **c))) for name, c in changes.items()]
    yield from sorted(
        ((name, plan) for name, plan in plans if plan.total < 0.97 * now),
        key=lambda item: item[1].total,
    )


def base_bytes(config: GemmaConfig, itemsize: int, quantize: str | None) -> int:
    """Of the weights as they are loaded."""
    if quantize is not None:
        return quantized_bytes(config, quantize, itemsize)
    return count_parameters(config) * itemsize


def _vectors(config: GemmaConfig, held: Vectors, tokens: int, row: int, itemsize: int) -> int:
    """Bytes of the vectors of one layer for so many tokens that each see `row` keys."""
    c = config
    each = (
        held.ffw * c.intermediate_size + held.width * c.hidden_size
        + held.heads * (c.num_heads + 2 * c.num_kv_heads) * c.head_dim
    )  # fmt: skip
    return int(tokens * (each * itemsize + held.scores * c.num_heads * row * 4))


def _needs(itemsize: int, quantize: str | None, kernels: bool) -> Needs:
    if quantize is None and itemsize == 4:
        return FLOAT32
    return NATIVE if kernels and quantize is None and itemsize == 2 else BFLOAT16


def _logits(config: GemmaConfig, positions: int, copies: float) -> int:
    chunk = max(1, CHUNK_ELEMENTS // config.vocab_size)
    return int(4 * config.vocab_size * min(positions, chunk) * copies)


def _copies(given: Tuning) -> int:
    size = _copied_bytes(given.itemsize, given.quantize, given.platform, given.kernels)
    # Without recomputation both passes share one copy of each weight, which lives as long.
    shared = given.remat == "off" or given.lora is None
    return size * _layer_weights(given.config) // (1 if shared else given.config.num_layers)


def _copied_bytes(itemsize: int, quantize: str | None, platform: str, kernels: bool) -> int:
    """Of the copy of a weight that a CPU multiplies with; 0 for none."""
    if platform != "cpu" or (itemsize == 4 and quantize is None):
        return 0
    if not kernels:
        return 4
    return 0 if quantize is None else itemsize


def _layer_weights(config: GemmaConfig) -> int:
    return sum(spec.size for spec in specs(config).values() if spec.linear)
