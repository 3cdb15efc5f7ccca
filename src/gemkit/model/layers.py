"""The small pieces of a block: RMSNorm, rotary embedding, gated MLP, embedding, soft cap.

Norms, angles and caps compute in float32 whatever the activations' dtype, as upstream does.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from gemkit.model.linear import linear, lookup

Rotation = tuple[jax.Array, jax.Array]


def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    """x / rms(x) * (1 + scale) over the last axis; Gemma stores scales around zero."""
    x32 = x.astype(jnp.float32)
    inverse = jax.lax.rsqrt(jnp.mean(jnp.square(x32), -1, keepdims=True) + eps)
    return (x32 * inverse * (1.0 + scale.astype(jnp.float32))).astype(x.dtype)


def rotation(positions: jax.Array, head_dim: int, theta: float, scale: float) -> Rotation:
    """Cosines and sines [B, T, 1, H/2] of rotary embedding (Su et al. 2021) at `positions` [B, T].

    float32 throughout: bfloat16 would round position 257 to 256.
    """
    exponents = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
    angles = positions.astype(jnp.float32)[..., None, None] / scale * theta**-exponents
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, cos_sin: Rotation) -> jax.Array:
    """Rotates x [B, T, N, H]; dimension i pairs with i + H/2, as in every checkpoint format."""
    cos, sin = cos_sin
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = (first * cos - second * sin, second * cos + first * sin)
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)


def gated_mlp(x: jax.Array, mlp: dict[str, Any]) -> jax.Array:
    """GeGLU with the tanh-approximate GELU: [..., D] → [..., D]."""
    gate = jax.nn.gelu(linear(x, mlp["gate"]), approximate=True)
    return linear(gate * linear(x, mlp["up"]), mlp["down"])


def embed(table: Any, tokens: jax.Array) -> jax.Array:
    """Rows of the table times sqrt(D), the factor rounded to the table's dtype as upstream."""
    scale = jnp.asarray(math.sqrt(table.shape[1]), table.dtype)
    return lookup(table, tokens) * scale


def soft_cap(x: jax.Array, cap: float | None) -> jax.Array:
    """cap * tanh(x / cap), or x when there is no cap."""
    return x if cap is None else cap * jnp.tanh(x / cap)
