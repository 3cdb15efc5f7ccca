"""Trees as google-deepmind/gemma has them, built without the code under test, and Orbax' ways to
save them.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params

Tree = dict[str, Any]


def nested(config: GemmaConfig, params: Params, by_width: bool = False) -> Tree:
    """Today's tree; gate and up as (2, F, D), or (2, D, F)."""
    c = config

    def heads(matrix: jax.Array) -> jax.Array:  # (n*H, D) → (n, D, H)
        return matrix.reshape(-1, c.head_dim, c.hidden_size).transpose(0, 2, 1)

    def layer(weights: Tree) -> Tree:
        q, k, v = (heads(weights["attn"][name]) for name in "qkv")
        gates = jnp.stack([weights["mlp"]["gate"], weights["mlp"]["up"]])
        out = weights["attn"]["o"].T.reshape(c.num_heads, c.head_dim, c.hidden_size)
        attention: Tree = {"attn_vec_einsum": {"w": out}}
        if c.num_heads == c.num_kv_heads:
            attention["qkv_einsum"] = {"w": jnp.stack([q, k, v])}
        else:
            attention |= {"q_einsum": {"w": q}, "kv_einsum": {"w": jnp.stack([k, v])}}
        if c.qk_norm:
            attention["_query_norm"] = {"scale": weights["attn"]["q_norm"]}
            attention["_key_norm"] = {"scale": weights["attn"]["k_norm"]}
        norms = {
            "pre_attention_norm": "pre_attn_norm", "pre_ffw_norm": "pre_ffw_norm",
            "post_attention_norm": "post_attn_norm", "post_ffw_norm": "post_ffw_norm",
        }  # fmt: skip
        return {
            "attn": attention,
            "mlp": {
                "gating_einsum": gates.transpose(0, 2, 1) if by_width else gates,
                "linear": weights["mlp"]["down"].T,
            },
            **{name: {"scale": weights[ours]} for name, ours in norms.items() if ours in weights},
        }

    return {
        "embedder": {"input_embedding": params["embed"]},
        **{f"layer_{i}": layer(weights) for i, weights in enumerate(params["layers"])},
        "final_norm": {"scale": params["final_norm"]},
    }


def flat(tree: Tree, prefix: str = "transformer/") -> Tree:
    """The tree of 2024: everything but the last step in one key, `w` in the MLP too."""
    found: Tree = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        steps = [step.key for step in path]
        if steps[-1] in ("gating_einsum", "linear"):
            steps.append("w")
        found.setdefault(prefix + "/".join(steps[:-1]), {})[steps[-1]] = leaf
    return found


def stacked(tree: Tree, period: int) -> Tree:
    """The flat tree with the layers of one kind of attention in one array."""
    rows: dict[tuple[str, str], list[Any]] = {}
    found: Tree = {}
    for key, leaves in flat(tree).items():
        _, place, *rest = key.split("/")
        if not place.startswith("layer_"):
            found[key] = leaves
            continue
        kind = int(place.removeprefix("layer_")) % period
        for name, leaf in leaves.items():
            home = f"transformer/stacked_layers/attention_type_{kind}/{'/'.join(rest)}"
            rows.setdefault((home, name), []).append(leaf)
    for (home, name), parts in rows.items():
        found.setdefault(home, {})[name] = jnp.stack(parts)
    return found


def save(folder: Path, tree: Tree) -> None:
    """As `gm.ckpts.save_params` does."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, tree)


def save_as(folder: Path, tree: Tree, **settings: bool) -> None:
    """With `use_ocdbt`, `use_zarr3` as given."""
    handler = ocp.PyTreeCheckpointHandler(**settings)
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(folder, tree)


def save_step(folder: Path, tree: Tree) -> None:
    """As a training run does: step, item, tree."""
    with ocp.CheckpointManager(folder) as manager:
        manager.save(700, args=ocp.args.StandardSave(tree))
