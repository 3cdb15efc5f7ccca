"""Gemma once more, in float64 NumPy with a loop over heads and queries: slow and obvious."""

from collections.abc import Sequence

import jax
import numpy as np

from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params


def norm(x: np.ndarray, scale: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * (1 + scale)


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def capped(x: np.ndarray, cap: float | None) -> np.ndarray:
    return x if cap is None else cap * np.tanh(x / cap)


def turned(x: np.ndarray, theta: float, scale: float) -> np.ndarray:
    """Rotates row t of x [T, H] by position t: dimension i with dimension i + H/2."""
    half = x.shape[1] // 2
    angles = np.arange(len(x))[:, None] / scale * theta ** -(np.arange(half) / half)
    a, b = x[:, :half], x[:, half:]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=1)


def attention(c: GemmaConfig, weights: dict, x: np.ndarray, kind: str) -> np.ndarray:
    theta, scale = (
        (c.rope_theta, c.rope_scale) if kind == "global" else (c.rope_local_theta, 1.0)
    )
    mixed = np.zeros((len(x), c.num_heads, c.head_dim))
    for head in range(c.num_heads):
        own, shared = (
            slice(number * c.head_dim, (number + 1) * c.head_dim)
            for number in (head, head // (c.num_heads // c.num_kv_heads))
        )
        q, k, v = x @ weights["q"][own].T, x @ weights["k"][shared].T, x @ weights["v"][shared].T
        if c.qk_norm:
            q = norm(q, weights["q_norm"], c.norm_eps)
            k = norm(k, weights["k_norm"], c.norm_eps)
        q, k = turned(q, theta, scale), turned(k, theta, scale)
        for t in range(len(x)):
            first = max(0, t + 1 - c.sliding_window) if kind == "local" else 0
            seen = slice(first, t + 1)
            scores = np.exp(capped(k[seen] @ q[t] * c.query_scale, c.attn_logit_softcap))
            mixed[t, head] = scores / scores.sum() @ v[seen]
    return mixed.reshape(len(x), -1) @ weights["o"].T


def reference_logits(params: Params, c: GemmaConfig, ids: Sequence[int]) -> np.ndarray:
    """Logits [T, V] in float64."""
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x = weights["embed"][list(ids)] * np.sqrt(c.hidden_size)
    for layer, kind in zip(weights["layers"], c.layer_kinds, strict=True):
        mixed = attention(c, layer["attn"], norm(x, layer["pre_attn_norm"], c.norm_eps), kind)
        x = x + (norm(mixed, layer["post_attn_norm"], c.norm_eps) if c.post_norms else mixed)
        y, mlp = norm(x, layer["pre_ffw_norm"], c.norm_eps), layer["mlp"]
        fed = (gelu(y @ mlp["gate"].T) * (y @ mlp["up"].T)) @ mlp["down"].T
        x = x + (norm(fed, layer["post_ffw_norm"], c.norm_eps) if c.post_norms else fed)
    states = norm(x, weights["final_norm"], c.norm_eps)
    return capped(states @ weights["embed"].T, c.final_logit_softcap)
