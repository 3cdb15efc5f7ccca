"""Log-likelihood of several continuations of many prompts.

The start that all prompts share is computed once; short prompts share rows; the continuations of
a prompt hang on its end as branches, so that it is read once however many there are; and the
256k-wide head runs only where a continuation's token is predicted.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.errors import GenerationError
from gemkit.generate.decode import check_prompts, read_prompt
from gemkit.generate.prefix import PrefixCache
from gemkit.model import transformer
from gemkit.model.cache import KVCache
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params
from gemkit.rows import bucket, pack_rows

BATCH_TOKENS = 2048
"""Tokens per batch: enough for full matrix speed, little enough to stay in memory."""
HEAD_ELEMENTS = 2**25
"""Logits held at once: 128 MiB in float32."""
SHORTEST_PREFIX, SHORTEST_ROW = 8, 128

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
    prefixes: PrefixCache | None = None,
) -> np.ndarray:  # fmt: skip
    """log p(continuation | prompt), summed over its tokens.

    Args:
      prompts: ids of each row.
      continuations: ids of each choice, the same for all rows.
      progress: called with (rows done, rows in all).
      prefixes: where the start is kept for the next call; of a single prompt its whole blocks.

    Returns:
      float64 [rows, continuations].

    Raises:
      GenerationError: an empty prompt or continuation, or a row longer than the context.
    """
    if not prompts:
        return np.zeros((0, len(continuations)))
    check_prompts(config, prompts)
    if not continuations or not all(continuations):
        raise GenerationError("a continuation has no tokens", "some text in each")
    longest = max(map(len, prompts)) + max(map(len, continuations)) - 1
    if longest > config.max_positions:
        raise GenerationError(
            f"a prompt with its continuation is {longest} tokens long",
            f"at most {config.max_positions}, the model's context", "shorten it",
        )  # fmt: skip
    branches = make_branches(continuations)
    shared, prefix = shared_length(prompts), None
    if len(prompts) == 1 and prefixes is not None:
        shared = (len(prompts[0]) - 1) // prefixes.block * prefixes.block
    if shared:
        prefix = read_prompt(params, config, prompts[0][:shared], prefixes)
    scores = np.zeros((len(prompts), len(continuations)))
    done = 0
    for rows, arrays in _batches([prompt[shared:] for prompt in prompts], shared, branches):
        found = np.asarray(_score_batch(params, config, prefix, arrays, len(branches.tokens)))
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


def _batches(
    prompts: Sequence[Sequence[int]], shared: int, branches: Branches
) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
    """(prompt numbers, arrays) of each batch.

    Rows are at least twice as long as what they hold, so that several prompts share one and few
    shapes are compiled: one for each row length that occurs.
    """
    extra = len(branches.tokens)
    by_length: dict[int, list[int]] = {}
    for number, prompt in enumerate(prompts):
        needed = len(prompt) + extra
        size = 1 << (2 * needed - 1).bit_length()
        # Attention costs the square of the row: a long prompt has its row to itself.
        size = size if size <= BATCH_TOKENS else 1 << (needed - 1).bit_length()
        by_length.setdefault(max(SHORTEST_ROW, size), []).append(number)
    for length, numbers in sorted(by_length.items()):
        packed = pack_rows([len(prompts[n]) + extra for n in numbers], length)
        rows = [[numbers[place] for place in row] for row in packed]
        count = -(-len(rows) // max(1, BATCH_TOKENS // length))
        size = -(-len(rows) // count)
        batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        slots = bucket(max(sum(map(len, batch)) for batch in batches))
        for batch in batches:
            order = [number for row in batch for number in row]
            yield order, _arrays(prompts, batch, (size, length), slots, shared, branches)


def _arrays(
    prompts: Sequence[Sequence[int]], batch: Sequence[Sequence[int]], shape: tuple[int, int],
    slots: int, shared: int, branches: Branches,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Rows of prompts with their branches; place `slots` prompts are asked for in `at`."""
    extra = len(branches.tokens)
    tokens, positions, segments, branch = (np.zeros(shape, np.int32) for _ in range(4))
    at = np.zeros((slots, 1 + extra), np.int32)
    wanted = np.full((slots, *branches.wanted.shape), -1, np.int32)
    slot = 0
    for row, numbers in enumerate(batch):
        start = 0
        for segment, number in enumerate(numbers, 1):
            prompt = prompts[number]
            end = start + len(prompt)
            own, hung = slice(start, end), slice(end, end + extra)
            tokens[row, own], tokens[row, hung] = prompt, branches.tokens
            positions[row, own] = shared + np.arange(len(prompt))
            positions[row, hung] = shared + len(prompt) - 1 + branches.offset
            branch[row, hung] = branches.branch
            segments[row, start : end + extra] = segment
            at[slot] = row * shape[1] + end - 1 + np.arange(1 + extra)
            wanted[slot] = branches.wanted
            start, slot = end + extra, slot + 1
    return {
        "tokens": tokens, "positions": positions, "segments": segments, "branches": branch,
        "at": at.reshape(-1), "wanted": wanted.reshape(-1, wanted.shape[-1]),
    }  # fmt: skip


@functools.partial(jax.jit, static_argnames=("config", "extra"))
def _score_batch(
    params: Params, config: GemmaConfig, prefix: KVCache | None, arrays: dict[str, jax.Array],
    extra: int,
) -> jax.Array:  # fmt: skip
    """[prompts, C] summed log-probabilities of the wanted tokens."""
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
    return found.reshape(-1, 1 + extra, found.shape[1]).sum(1)
