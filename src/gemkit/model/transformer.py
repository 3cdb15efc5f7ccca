"""Gemma, every generation: tokens → hidden states → logits, as pure functions.

`hidden` and `logits` are separate because the vocabulary is 256k: logits are computed only where
they are wanted. Axis letters: B batch, T tokens, S keys, D width, N heads, K key/value heads,
H head size, V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from gemkit.kernels.dot import PRODUCT
from gemkit.model import layers
from gemkit.model.attention import attend, attend_cached, causal_mask, segment_mask
from gemkit.model.cache import (
    Buffer,
    KVCache,
    Quantised,
    capacity,
    held_positions,
    slots_after,
    vectors,
    write,
)
from gemkit.model.config import GemmaConfig, LayerKind
from gemkit.model.linear import LoraWeight, linear, tied_logits
from gemkit.model.weights import Params, flatten, unflatten

KeysValues = tuple[Buffer, Buffer]
Remat = Literal["off", "layer", "full"]


def hidden(
    params: Params,
    config: GemmaConfig,
    tokens: jax.Array,
    positions: jax.Array,
    segments: jax.Array,
    branches: jax.Array | None = None,
    *,
    prefix: KVCache | None = None,
    at: jax.Array | None = None,
    remat: Remat = "off",
) -> jax.Array:
    """Final hidden states of whole rows, for training and scoring.

    Args:
      params: the weights tree; leaves of any type `linear` accepts.
      tokens: [B, T] int32.
      positions: [B, T] int32, each sequence's own, from 0 (or from the end of the prefix).
      segments: [B, T] int32; a token sees only its own segment, 0 is padding.
      branches: [B, T] int32, alternative continuations, see `segment_mask`.
      prefix: a cache of one row that every row continues; it is read, not changed.
      at: [M] int32 places b * T + t; only these get the last layer's MLP and are returned.
      remat: what the backward pass computes again: nothing; in each layer all but the outputs of
        its matrix products, so attention weights, norms and GELU; or the layers in full, of
        which only the inputs are kept.

    Returns:
      [B, T, D], or [M, D] with `at`; normalised, ready for `logits`.
    """
    own = segment_mask(segments, branches)
    masks = {}
    # A set's order differs between processes, and with it the key of the compiled program.
    for kind in dict.fromkeys(config.layer_kinds):
        mask = own & causal_mask(positions, positions, config.window(kind))
        if prefix is not None:
            held = _held(prefix, config, kind, prefix.lengths)
            before = causal_mask(positions, held, config.window(kind))
            mask = jnp.concatenate([before & (segments > 0)[:, :, None], mask], axis=2)
        masks[kind] = mask
    angles = rotations(config, positions)
    x = layers.embed(params["embed"], tokens)
    last = config.num_layers - 1
    for index, kind in enumerate(config.layer_kinds):
        run = functools.partial(
            block, config=config, cos_sin=angles[kind], mask=masks[kind],
            extend=_own if prefix is None else _after(prefix, index, x.shape[0]),
            at=at if index == last else None,
        )  # fmt: skip
        x = _rematerialised(run, remat)(params["layers"][index], x)
    return layers.rms_norm(x, params["final_norm"], config.norm_eps)


def _rematerialised(run: Callable[..., jax.Array], remat: Remat) -> Callable[..., jax.Array]:
    if remat == "off":
        return run
    policies = jax.checkpoint_policies
    kept = policies.save_from_both_policies(
        policies.dots_with_no_batch_dims_saveable, policies.save_only_these_names(PRODUCT)
    )
    again = jax.checkpoint(run, policy=kept if remat == "layer" else None)
    return lambda layer, x: again(_not_before(x, layer), x)


def _not_before(x: jax.Array, layer: Params) -> Params:
    """The layer, whose frozen weights cannot be read before x is there.

    XLA:CPU would otherwise begin with float32 copies of all layers' bfloat16 weights.
    """
    leaves = dict(flatten(layer))
    if not any(isinstance(leaf, LoraWeight) for leaf in leaves.values()):
        return layer  # all of it is trained, and a barrier would want gradients for x
    frozen = {p: w.base if isinstance(w, LoraWeight) else w for p, w in leaves.items()}
    held, _ = jax.lax.optimization_barrier((frozen, jax.lax.stop_gradient(x)))
    return unflatten(
        {
            path: dataclasses.replace(leaf, base=held[path]) if isinstance(leaf, LoraWeight)
            else held[path]
            for path, leaf in leaves.items()
        }
    )  # fmt: skip


def hidden_cached(
    params: Params, config: GemmaConfig, tokens: jax.Array, counts: jax.Array, cache: KVCache
) -> tuple[jax.Array, KVCache]:
    """Hidden states of the next tokens of every row, and the cache with them written.

    Args:
      tokens: [B, T] int32, at most `PIECE` columns.
      counts: [B] int32, how many of them, from the left, are each row's; the states of the
        others mean nothing.

    Returns:
      ([B, T, D], cache); lengths have grown by `counts`.
    """
    columns = tokens.shape[1]
    positions = cache.lengths[:, None] + jnp.arange(columns, dtype=jnp.int32)
    lengths = cache.lengths + counts
    masks, places = {}, {}
    for kind in dict.fromkeys(config.layer_kinds):
        held = _held(cache, config, kind, lengths)
        masks[kind] = causal_mask(positions, held, config.window(kind))
        places[kind] = slots_after(cache.lengths, counts, columns, held.shape[1])
    angles = rotations(config, positions)
    keys, values = list(cache.keys), list(cache.values)
    x = layers.embed(params["embed"], tokens)
    for index, kind in enumerate(config.layer_kinds):

        def extend(
            k: jax.Array, v: jax.Array, index: int = index, kind: LayerKind = kind
        ) -> KeysValues:
            keys[index] = write(keys[index], k, places[kind])
            values[index] = write(values[index], v, places[kind])
            return keys[index], values[index]

        x = block(
            params["layers"][index], x, config, angles[kind], masks[kind], extend,
            attend=attend_cached,
        )  # fmt: skip
    x = layers.rms_norm(x, params["final_norm"], config.norm_eps)
    return x, KVCache(keys, values, lengths)


def logits(params: Params, config: GemmaConfig, states: jax.Array) -> jax.Array:
    """Hidden states [..., D] → float32 logits [..., V] through the tied embedding."""
    raw = tied_logits(states, params["embed"])
    return layers.soft_cap(raw, config.final_logit_softcap)


def block(
    layer: Params,
    x: jax.Array,
    config: GemmaConfig,
    cos_sin: layers.Rotation,
    mask: jax.Array,
    extend: Callable[[jax.Array, jax.Array], KeysValues],
    at: jax.Array | None = None,
    attend: Callable[..., jax.Array] = attend,
) -> jax.Array:
    """One decoder block on x [B, T, D]; `extend` says which keys and values are looked at."""
    eps = config.norm_eps
    attention = layer["attn"]
    normed = layers.rms_norm(x, layer["pre_attn_norm"], eps)
    heads = (*x.shape[:2], -1, config.head_dim)
    q = linear(normed, attention["q"]).reshape(heads)
    k = linear(normed, attention["k"]).reshape(heads)
    v = linear(normed, attention["v"]).reshape(heads)
    if config.qk_norm:
        q = layers.rms_norm(q, attention["q_norm"], eps)
        k = layers.rms_norm(k, attention["k_norm"], eps)
    q = layers.rotate(q, cos_sin) * jnp.asarray(config.query_scale, x.dtype)
    seen_keys, seen_values = extend(layers.rotate(k, cos_sin), v)
    mixed = attend(q, seen_keys, seen_values, mask, config.attn_logit_softcap)
    if at is not None:
        mixed = mixed.reshape(-1, mixed.shape[-1])[at]
        x = x.reshape(-1, x.shape[-1])[at]
    mixed = linear(mixed, attention["o"])
    if config.post_norms:
        mixed = layers.rms_norm(mixed, layer["post_attn_norm"], eps)
    x = x + mixed
    fed = layers.gated_mlp(layers.rms_norm(x, layer["pre_ffw_norm"], eps), layer["mlp"])
    if config.post_norms:
        fed = layers.rms_norm(fed, layer["post_ffw_norm"], eps)
    return x + fed


def rotations(config: GemmaConfig, positions: jax.Array) -> dict[str, layers.Rotation]:
    """Rotary angles of positions [B, T] for each kind of layer the model has."""
    bases: dict[str, tuple[float, float]] = {
        "global": (config.rope_theta, config.rope_scale),
        "local": (config.rope_local_theta, 1.0),
    }
    return {
        kind: layers.rotation(positions, config.head_dim, *bases[kind])
        for kind in dict.fromkeys(config.layer_kinds)
    }


def _held(
    cache: KVCache, config: GemmaConfig, kind: LayerKind, lengths: jax.Array
) -> jax.Array:
    """The positions [B, S] in layers of this kind, for rows of these lengths."""
    return held_positions(lengths, capacity(cache.keys[config.layer_kinds.index(kind)]))


def _own(k: jax.Array, v: jax.Array) -> KeysValues:
    return k, v


def _after(prefix: KVCache, index: int, batch: int) -> Callable[..., KeysValues]:
    def extend(k: jax.Array, v: jax.Array) -> KeysValues:
        def join(held: Buffer, new: jax.Array) -> jax.Array:
            if isinstance(held, Quantised):
                raise TypeError("a prefix is not quantised")
            shared = jnp.broadcast_to(vectors(held), (batch, *held.shape[1:])).astype(new.dtype)
            return jnp.concatenate([shared, new], axis=1)

        return join(prefix.keys[index], k), join(prefix.values[index], v)

    return extend


def positions_of(segments: Any) -> Any:
    """Positions [B, T] of rows that hold one sequence each, given segments [B, T] of 0 and 1."""
    return jnp.maximum(jnp.cumsum(segments, axis=1) - 1, 0).astype(jnp.int32)
