"""Cross-entropy over a vocabulary's table on the CPU, with its gradient.

The logits of a block of the vocabulary live in a core's cache and nowhere else: quicker than
product, softmax and product one after the other, and no memory for logits.
`benchmarks/run.py products` measures it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.kernels.dot import FEW_ROWS, available


def takes(states: Any, table: Any) -> bool:
    """Whether the losses of states [M, D] over a table [V, D] are better computed natively.

    For fewer rows, reading the table twice costs less than arranging it.
    """
    if not isinstance(table, jax.Array) or states.dtype != table.dtype:
        return False
    known = table.dtype in (jnp.float32, jnp.bfloat16)
    return known and states.shape[0] > FEW_ROWS and table.size > 0 and available()


def losses(
    states: jax.Array, table: jax.Array, targets: jax.Array, weights: jax.Array,
    cap: float | None, *, slopes: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """(-log p(target) [M], whether no logit is larger [M], slopes [M, D]), the first in float32.

    The gradient of a row's loss by its state is the mean of the table's rows under the softmax,
    less the target's row: attention of the states over the table, computed as FlashAttention
    computes it (Dao et al. 2022, arXiv:2205.14135). A row's figures do not depend on the others.

    Args:
      states: [M, D].
      table: [V, D] of the same dtype, float32 or bfloat16.
      targets: [M] int32.
      weights: [M] float32. Where it is 0 nothing is computed and all figures are 0.
      cap: logits become cap * tanh(logits / cap); None leaves them.
      slopes: whether the gradient of the sum of weight * loss by the states is wanted, else [0, D].
    """
    count, width = states.shape
    row = jax.ShapeDtypeStruct((count,), jnp.float32)
    found = jax.ShapeDtypeStruct((count if slopes else 0, width), states.dtype)
    call = jax.ffi.ffi_call("gemkit_loss", (row, row, found), vmap_method="sequential")
    loss, right, slope = call(states, table, targets, weights, cap=np.float32(cap or 0.0))
    return loss, right, slope
