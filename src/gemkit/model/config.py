"""The shape of a Gemma model: one frozen dataclass for every generation.

Generations differ by fields (norms, soft caps, window pattern, rope bases), never by name.
"""

import dataclasses
from typing import Any, Literal

from gemkit.errors import ConfigError

LayerKind = Literal["global", "local"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GemmaConfig:
    """Everything the model's functions need to know besides its weights.

    Attributes:
      num_layers: L, decoder blocks.
      hidden_size: D, model width.
      intermediate_size: F, width of one branch of the gated MLP.
      num_heads: N, query heads.
      num_kv_heads: K, key/value heads; divides N.
      head_dim: H, size of one head; even.
      vocab_size: V, rows of the embedding table.
      query_scale: factor on queries before the dot product, H**-0.5 unless the model says D/N.
      attention_pattern: kinds of attention, repeated over the layers.
      sliding_window: tokens a local layer sees (itself included); None if no layer is local.
      attn_logit_softcap, final_logit_softcap: c in c * tanh(x / c), or None.
      rope_theta: rotary base of global layers.
      rope_local_theta: rotary base of local layers.
      rope_scale: positions of global layers are divided by it.
      qk_norm: RMSNorm over H on queries and keys (Gemma 3).
      post_norms: norms after attention and MLP too (Gemma 2 and 3).
      norm_eps: added to the mean square in every RMSNorm.
      max_positions: longest context the model was trained for, in tokens.
    """

    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    query_scale: float
    attention_pattern: tuple[LayerKind, ...] = ("global",)
    sliding_window: int | None = None
    attn_logit_softcap: float | None = None
    final_logit_softcap: float | None = None
    rope_theta: float = 10_000.0
    rope_local_theta: float = 10_000.0
    rope_scale: float = 1.0
    qk_norm: bool = False
    post_norms: bool = False
    norm_eps: float = 1e-6
    max_positions: int = 8192

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise ConfigError("impossible model configuration: " + "; ".join(problems))

    @property
    def layer_kinds(self) -> tuple[LayerKind, ...]:
        """Kind of attention of each of the L layers."""
        pattern = self.attention_pattern
        return tuple(pattern[i % len(pattern)] for i in range(self.num_layers))

    def window(self, kind: LayerKind) -> int | None:
        """Tokens a layer of this kind sees, None for all."""
        return self.sliding_window if kind == "local" else None

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return dataclasses.asdict(self) | {"attention_pattern": list(self.attention_pattern)}


def _problems(c: GemmaConfig) -> list[str]:
    positive = (
        "num_layers", "hidden_size", "intermediate_size", "num_heads", "num_kv_heads",
        "head_dim", "vocab_size", "max_positions", "query_scale", "rope_theta",
        "rope_local_theta", "rope_scale",
    )  # fmt: skip
    found = [f"{name} is {getattr(c, name)}" for name in positive if getattr(c, name) <= 0]
    if found:
        return found
    if c.num_heads % c.num_kv_heads:
        found.append(f"num_heads {c.num_heads} is no multiple of num_kv_heads {c.num_kv_heads}")
    if c.head_dim % 2:
        found.append(f"head_dim {c.head_dim} is odd, rotary embedding pairs dimensions")
    if not c.attention_pattern or set(c.attention_pattern) - {"global", "local"}:
        found.append(f"attention_pattern {c.attention_pattern} is not made of global and local")
    if "local" in c.attention_pattern and not (c.sliding_window and c.sliding_window > 0):
        found.append(f"local layers but sliding_window is {c.sliding_window}")
    for name in ("attn_logit_softcap", "final_logit_softcap"):
        cap = getattr(c, name)
        if cap is not None and cap <= 0:
            found.append(f"{name} is {cap}")
    return found
