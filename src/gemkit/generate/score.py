"""Log-likelihood of several continuations of many prompts.

The start that all prompts share is computed once; rows are bucketed by length; the continuations
of a row hang on its end as branches, so that a row is read once however many there are; and the
256k-wide head runs only where a continuation's token is predicted.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.errors import GenerationError
from gemkit.generate.decode import bucket, check_prompts, prefill
from gemkit.model import transformer
from gemkit.model.cache import PIECE, KVCache, init_cache
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params

BATCH_TOKENS = 2048
"""Tokens per batch: enough for full matrix speed, little enough to stay in memory."""
HEAD_ELEMENTS = 2**25
"""Logits held at once: 128 MiB in float32."""
SHORTEST_PREFIX = 8

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Branches:
    """How a set of continuations hangs on a row's end.

    Attributes:
      tokens: [E] all tokens that are read, each continuation's last one left out.
      branch: [E] number of the continuation, from 1.
      offset: [E] distance from the row's last token, from 1.
      wanted: [1 + E, C] the tokens whose log-probability is needed where the row ends (column c:
        first token of continuation c) and after each read token (column c: its next one); -1
        elsewhere.
    """

    tokens: np.ndarray
    branch: np.ndarray
    offset: np.ndarray
    wanted: np.ndarray


def make_branches(continuations: Sequence[Sequence[int]]) -> Branches:
    """The layout of a set of continuations, none empty.

    >>> make_branches([[5], [6, 7]]).wanted.tolist()
    [[5, 6], [-1, 7]]
    """
    count = len(continuations)
    wanted = [[ids[0] for ids in continuations]]
    tokens, branch, offset = [], [], []
    for column, ids in enumerate(continuations):
        for place, (token, following) in enumerate(zip(ids, ids[1:], strict=False), 1):
            tokens.append(token)
            branch.append(column + 1)
            offset.append(place)
            wanted.append([following if c == column else -1 for c in range(count)])
    as_array = functools.partial(np.asarray, dtype=np.int32)
    return Branches(as_array(tokens), as_array(branch), as_array(offset), as_array(wanted))


def score_continuations(
    params: Params, config: GemmaConfig, prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]], progress: Progress | None = None,
) -> np.ndarray:  # fmt: skip
    """log p(continuation | prompt), summed over its tokens.

    Args:
      prompts: ids of each row.
      continuations: ids of each choice, the same for all rows.
      progress: called with (rows done, rows in all).

    Returns:
      float64 [rows, continuations].

    Raises:
      GenerationError: an empty prompt or continuation, or a row longer than the context.
    """
    check_prompts(config, prompts)
    if not all(continuations):
        raise GenerationError("a continuation has no tokens", "some text in each")
    longest = max(map(len, prompts)) + max(map(len, continuations)) - 1
    if longest > config.max_positions:
        raise GenerationError(
            f"a prompt with its continuation is {longest} tokens long",
            f"at most {config.max_positions}, the model's context", "shorten it",
        )  # fmt: skip
    branches = make_branches(continuations)
    shared = shared_length(prompts)
    prefix = None if shared == 0 else _prefix_cache(params, config, prompts[0][:shared])
    scores = np.zeros((len(prompts), len(continuations)))
    done = 0
    for rows, arrays in _batches([prompt[shared:] for prompt in prompts], shared, branches):
        found = np.asarray(_score_batch(params, config, prefix, arrays))
        scores[rows] = found[: len(rows)]
        done += len(rows)
        if progress is not None:
            progress(done, len(prompts))
    return scores


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that begin every prompt and are worth computing apart; at least one stays behind."""
    if len(prompts) < 2:
        return 0
    ordered = sorted(list(prompt) for prompt in prompts)
    first, last = ordered[0], ordered[-1]
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    length = min(len(first), len(last)) if length is None else length
    length = min(length, min(map(len, prompts)) - 1)
    return length if length >= SHORTEST_PREFIX else 0


def _prefix_cache(params: Params, config: GemmaConfig, ids: Sequence[int]) -> KVCache:
    size = bucket(len(ids))
    tokens, positions = np.zeros((1, size), np.int32), np.full((1, size), -1, np.int32)
    tokens[0, size - len(ids) :] = ids
    positions[0, size - len(ids) :] = np.arange(len(ids))
    cache = init_cache(config, 1, size, params["embed"].dtype)
    for start in range(0, size, PIECE):
        piece = slice(start, start + PIECE)
        _, cache = prefill(params, config, tokens[:, piece], positions[:, piece], cache)
    return cache


def _batches(
    prompts: Sequence[Sequence[int]], shared: int, branches: Branches
) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
    """(row numbers, arrays) of each batch, short rows first."""
    extra = len(branches.tokens)
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    while order:
        length = bucket(len(prompts[order[0]]) + extra, 8)
        fitting = [row for row in order if len(prompts[row]) + extra <= length]
        size = max(1, BATCH_TOKENS // length)
        rows, order = fitting[:size], order[min(size, len(fitting)) :]
        # A short last batch is padded to a power of two instead of to the full size.
        count = min(size, 1 << (len(rows) - 1).bit_length())
        yield rows, _arrays([prompts[row] for row in rows], count, length, shared, branches)


def _arrays(
    prompts: Sequence[Sequence[int]], count: int, length: int, shared: int, branches: Branches
) -> dict[str, np.ndarray]:
    extra = len(branches.tokens)
    tokens, positions, segments, branch = (np.zeros((count, length), np.int32) for _ in range(4))
    at = np.zeros((count, 1 + extra), np.int32)
    for row, prompt in enumerate(prompts):
        end = len(prompt)
        tokens[row, :end] = prompt
        positions[row, :end] = shared + np.arange(end)
        tokens[row, end : end + extra] = branches.tokens
        positions[row, end : end + extra] = shared + end - 1 + branches.offset
        branch[row, end : end + extra] = branches.branch
        segments[row, : end + extra] = 1
        at[row] = row * length + end - 1 + np.arange(1 + extra)
    return {
        "tokens": tokens, "positions": positions, "segments": segments, "branches": branch,
        "at": at.reshape(-1), "wanted": np.tile(branches.wanted, (count, 1)),
    }  # fmt: skip


@functools.partial(jax.jit, static_argnames="config")
def _score_batch(
    params: Params, config: GemmaConfig, prefix: KVCache | None, arrays: dict[str, jax.Array]
) -> jax.Array:
    """[B, C] summed log-probabilities of the wanted tokens."""
    states = transformer.hidden(
        params, config, arrays["tokens"], arrays["positions"], arrays["segments"],
        arrays["branches"], prefix=prefix, at=arrays["at"],
    )  # fmt: skip

    def position(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        state, wanted = pair
        logits = transformer.logits(params, config, state)
        picked = logits[jnp.maximum(wanted, 0)] - jax.nn.logsumexp(logits)
        return jnp.where(wanted >= 0, picked, 0.0)

    chunk = max(1, HEAD_ELEMENTS // config.vocab_size)
    found = jax.lax.map(position, (states, arrays["wanted"]), batch_size=chunk)
    return found.reshape(arrays["tokens"].shape[0], -1, found.shape[1]).sum(1)
