"""The compiled half of the engine: prefill a piece, decode some tokens, score a prompt.

Pure functions over a cache and a few small arrays, one entry per row. Shapes come from short
lists of buckets, so that few programs are compiled. Who the rows belong to, and when they come
and go, is `engine`'s.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.errors import GenerationError
from gemkit.generate.draft import TRIAL, propose
from gemkit.generate.prefix import PrefixCache, read_block, write_block
from gemkit.generate.sampling import Draws, count, next_tokens
from gemkit.model import cache as kv
from gemkit.model import transformer
from gemkit.model.cache import KVCache
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params

SMALLEST = 16
FIRST = 8
"""Most known tokens that a row's first pass reads, so that a few need no piece of their own."""
STOPS = 8
"""Stop ids are padded to a multiple of this, so that their number does not compile anew."""
HEAD_ELEMENTS = 2**25
"""Logits held at once when a prompt is scored: 128 MiB in float32."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """What the loop needs to know about the rows, small enough to be sent with every call.

    Attributes:
      tokens: [B, P] of each row those that are not in the cache, the newest one last, then 0; P is
        1 or `FIRST`.
      unread: [B] how many.
      live: [B] rows that go on.
      left: [B] tokens each may still make.
      stops: [B, E] tokens that end it, padded with at least one -1.
      drafting: [B] rows for which drafts are tried.
      history: [B, C] every token of each row, None if none drafts.
    """

    tokens: Any
    unread: Any
    live: Any
    left: Any
    stops: Any
    drafting: Any
    history: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Made:
    """What a call made.

    Attributes:
      tokens: [B, M] new tokens, the one that ended a row included; -1 after them.
      log_probs: [B, M] of these tokens.
      count: [B] how many.
      passes, accepted: [B] forward passes that had a draft, drafted tokens that were right.
    """

    tokens: jax.Array
    log_probs: jax.Array
    count: jax.Array
    passes: jax.Array
    accepted: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """What the loop carries; `counts` as in `sampling`, None without a penalty."""

    cache: KVCache
    rows: Rows
    counts: jax.Array | None
    made: Made


def bucket(count: int, smallest: int = SMALLEST) -> int:
    """The length `count` is padded to: powers of two and their halves between, then pieces.

    >>> [bucket(n) for n in (1, 17, 25, 65, 600)]
    [16, 24, 32, 96, 1024]
    """
    if count > kv.PIECE:
        return -(-count // kv.PIECE) * kv.PIECE
    size = smallest
    while size < count:
        size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
    return size


def power(count: int, smallest: int = 1) -> int:
    """The next power of two.

    >>> [power(1), power(5), power(5, 16)]
    [1, 8, 16]
    """
    return max(smallest, 1 << (count - 1).bit_length())


@functools.partial(
    jax.jit, static_argnames=("config", "with_states"), donate_argnames="cache"
)  # fmt: skip
def prefill(
    params: Params, config: GemmaConfig, cache: KVCache, rows: jax.Array, tokens: jax.Array,
    counts: jax.Array, with_states: bool = False,
) -> tuple[jax.Array | None, KVCache]:  # fmt: skip
    """Reads a piece [R, T] into some rows [R] of the cache; numbers that are no row read nothing.

    Returns:
      The states [R, T, D] if asked for (else the last layer computes keys and values only), and
      the cache.
    """
    part = kv.take_rows(cache, rows)
    states, part = transformer.hidden_cached(params, config, tokens, counts, part)
    return (states if with_states else None), kv.put_rows(cache, rows, part)


@functools.partial(jax.jit, static_argnames="config")
def token_log_probs(
    params: Params, config: GemmaConfig, states: jax.Array, targets: jax.Array
) -> jax.Array:
    """log p of each target [T] under the logits of its state [T, D]."""

    def one(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        logits = transformer.logits(params, config, pair[0])
        return logits[pair[1]] - jax.nn.logsumexp(logits)

    chunk = max(1, HEAD_ELEMENTS // config.vocab_size)
    return jax.lax.map(one, (states, targets), batch_size=chunk)


@functools.partial(
    jax.jit, static_argnames=("config", "draft", "room"), donate_argnames=("cache", "counts")
)
def decode_steps(
    params: Params, config: GemmaConfig, cache: KVCache, rows: Rows, draws: Draws,
    counts: jax.Array | None, bias: jax.Array | None, allowed: jax.Array | None,
    steps: jax.Array, draft: int, room: int,
) -> tuple[KVCache, jax.Array | None, Made]:  # fmt: skip
    """Up to `steps` forward passes for every live row, each of one token and up to `draft` more.

    The first pass reads what is known of the rows, if that is more than one token of some. A
    drafted token is kept while it is the one that is drawn at its position, so the answer is that
    of single steps.

    Args:
      bias: [B, V] float32 added to the logits, or None.
      allowed: [B, V] bool for a single step without drafts, or None.
      room: M, most tokens made per row; the loop ends when a pass might make more.
    """
    batch, width, given = len(rows.tokens), 1 + draft, (draws, bias, allowed)

    def goes_on(carry: tuple[jax.Array, State]) -> jax.Array:
        number, s = carry
        return (number < steps) & jnp.any(s.rows.live) & (s.made.count.max() + width <= room)

    def step(carry: tuple[jax.Array, State]) -> tuple[jax.Array, State]:
        number, s = carry
        # Else XLA:CPU converts bfloat16 weights once, before the loop, and keeps both copies.
        weights, number = jax.lax.optimization_barrier((params, number))
        lengths = s.cache.lengths

        def read(tokens: jax.Array, drafted: Any) -> tuple[KVCache, jax.Array, jax.Array]:
            """The cache after columns [B, T], the token drawn after each and its log p [B, T]."""
            valid = jnp.where(s.rows.live, 1 + drafted, 0)
            states, cache = transformer.hidden_cached(weights, config, tokens, valid, s.cache)
            places = lengths[:, None] + jnp.arange(1, tokens.shape[1] + 1, dtype=jnp.int32)
            return cache, *_draw(weights, config, s, states, places, given, width)

        guess, drafted = jnp.zeros((batch, 0), jnp.int32), jnp.zeros((batch,), jnp.int32)
        newest = s.rows.tokens
        if draft:
            guess, found = propose(s.rows.history, lengths, draft)
            wanted = s.rows.live & s.rows.drafting
            drafted = jnp.where(wanted, jnp.minimum(found, s.rows.left - 1), 0)
            columns = jnp.concatenate([newest, guess], axis=1)
            # For a few columns even a small model takes little longer; not so for all.
            most = drafted.max()
            cache, drawn, log_p = jax.lax.switch(
                jnp.int32(most > 0) + jnp.int32(most > TRIAL),
                [lambda n=n: read(columns[:, : 1 + n], drafted) for n in (0, TRIAL, draft)],
            )
        else:
            cache, drawn, log_p = read(newest, 0)
        return number + 1, _take_in(s, cache, drawn, log_p, guess, drafted)

    state = State(cache, jax.tree.map(jnp.asarray, rows), counts, _nothing_made(batch, room))
    done = jnp.int32(0)
    if rows.tokens.shape[1] > 1:
        state, done = _first_pass(params, config, state, given, width), jnp.int32(1)
    _, state = jax.lax.while_loop(goes_on, step, (done, state))
    return state.cache, state.counts, state.made


def _draw(
    params: Params, config: GemmaConfig, s: State, states: jax.Array, places: jax.Array,
    given: tuple[Draws, Any, Any], width: int,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """The token drawn after each of the states [B, T, D], and its log p.

    Args:
      places: [B, T] where the tokens will stand.
      given: draws, bias and allowed tokens.

    Returns:
      Both [B, width], 0 beyond T.
    """
    batch, columns = places.shape
    logits = transformer.logits(params, config, states.reshape(-1, states.shape[-1]))
    draws, counts, bias, allowed = jax.tree.map(
        lambda leaf: jnp.repeat(leaf, columns, axis=0), (given[0], s.counts, *given[1:])
    )
    drawn, log_p = next_tokens(logits, draws, places.reshape(-1), counts, allowed, bias)
    rest = ((0, 0), (0, width - columns))
    drawn, log_p = (jnp.pad(x.reshape(batch, columns), rest) for x in (drawn, log_p))
    return drawn, log_p


def _first_pass(
    params: Params, config: GemmaConfig, s: State, given: tuple[Draws, Any, Any], width: int
) -> State:
    """The state after a pass that reads all that is known of each row."""
    valid = jnp.where(s.rows.live, s.rows.unread, 0)
    newest = jnp.maximum(valid - 1, 0)
    states, cache = transformer.hidden_cached(params, config, s.rows.tokens, valid, s.cache)
    states = jnp.take_along_axis(states, newest[:, None, None], axis=1)
    drawn, log_p = _draw(params, config, s, states, cache.lengths[:, None], given, width)
    before = dataclasses.replace(s.cache, lengths=s.cache.lengths + newest)
    guess = jnp.zeros((len(valid), width - 1), jnp.int32)
    s = dataclasses.replace(s, cache=before)
    return _take_in(s, cache, drawn, log_p, guess, jnp.zeros_like(valid))


def _nothing_made(batch: int, room: int) -> Made:
    return Made(
        jnp.full((batch, room), -1, jnp.int32), jnp.zeros((batch, room), jnp.float32),
        *(jnp.zeros((batch,), jnp.int32) for _ in range(3)),
    )  # fmt: skip


def _take_in(
    s: State, cache: KVCache, drawn: jax.Array, log_p: jax.Array, guess: jax.Array,
    drafted: jax.Array,
) -> State:  # fmt: skip
    """The state after a pass: per row the drawn tokens up to the first that differs from its guess.

    Args:
      drawn, log_p: [B, T]; column t follows guess t - 1.
      guess: [B, T - 1], of which `drafted` [B] count.
    """
    column = jnp.arange(drawn.shape[1], dtype=jnp.int32)
    rows, made, before = s.rows, s.made, s.cache.lengths
    right = (guess == drawn[:, :-1]) & (column[:-1] < drafted[:, None])
    accepted = jnp.cumprod(right.astype(jnp.int32), axis=1).sum(1)
    ends = (drawn[:, :, None] == rows.stops[:, None]).any(-1) & (column <= accepted[:, None])
    until = jnp.where(ends, column, drawn.shape[1]).min(1)
    new = jnp.where(rows.live, jnp.minimum(jnp.minimum(accepted, until) + 1, rows.left), 0)
    kept = column < new[:, None]

    def append(buffer: jax.Array, more: jax.Array, start: jax.Array) -> jax.Array:
        places = jnp.where(kept, start[:, None] + column, buffer.shape[1])
        return buffer.at[jnp.arange(len(new))[:, None], places].set(more, mode="drop")

    counts = s.counts
    if counts is not None:
        for place in range(drawn.shape[1]):
            counts = count(counts, jnp.where(kept[:, place], drawn[:, place], -1))
    newest = jnp.take_along_axis(drawn, jnp.maximum(new - 1, 0)[:, None], axis=1)
    history = None
    if rows.history is not None:
        history = append(rows.history, drawn, before + 1)
    left = rows.left - new
    return State(
        dataclasses.replace(cache, lengths=before + new),
        Rows(
            newest, jnp.ones_like(left), rows.live & (until >= new) & (left > 0), left, rows.stops,
            rows.drafting, history,
        ),
        counts,
        Made(
            append(made.tokens, drawn, made.count), append(made.log_probs, log_p, made.count),
            made.count + new, made.passes + jnp.int32(drafted > 0), made.accepted + accepted,
        ),
    )  # fmt: skip


def all_logits(params: Params, config: GemmaConfig, tokens: np.ndarray) -> jax.Array:
    """tokens [B, T], 0 = padding on the right → float32 logits [B, T, V]."""
    rows, length = tokens.shape
    padded = np.zeros((rows, bucket(length)), np.int32)
    padded[:, :length] = tokens
    return _all_logits(params, config, padded)[:, :length]


@functools.partial(jax.jit, static_argnames="config")
def _all_logits(params: Params, config: GemmaConfig, tokens: jax.Array) -> jax.Array:
    segments = jnp.ones_like(tokens)
    positions = transformer.positions_of(segments)
    # Padding on the right needs no mask: nothing before it can see it.
    states = transformer.hidden(params, config, tokens, positions, segments)
    return transformer.logits(params, config, states)


def read_prompt(
    params: Params, config: GemmaConfig, prompt: Sequence[int], prefixes: PrefixCache | None = None
) -> KVCache:
    """A cache of one row that holds the prompt; what `prefixes` holds of it is not read again."""
    cache = kv.init_cache(config, 1, bucket(len(prompt)), params["embed"].dtype)
    row, keys, begin = np.zeros(1, np.int32), list[bytes](), 0
    if prefixes is not None:
        keys = prefixes.keys(prompt)
        held = keys[: prefixes.match(keys)]
        prefixes.touch(held)
        for key in held:
            cache = write_block(cache, row[0], np.int32(begin), prefixes[key])
            begin += prefixes.block
    while begin < len(prompt):
        piece = prompt[begin : begin + kv.PIECE]
        tokens, counts = pad_right([piece], 1)
        _, cache = prefill(params, config, cache, row, tokens, counts)
        # Older blocks may have left the rings.
        first, begin = begin, begin + len(piece)
        if prefixes is not None:
            for number in range(first // prefixes.block, begin // prefixes.block):
                start = np.int32(number * prefixes.block)
                arrays = read_block(cache, row[0], start, prefixes.block)
                prefixes.put(keys[: number + 1], arrays)
    return cache


def pad_right(pieces: Sequence[Sequence[int]], rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Pieces → tokens [rows, T], T a power of two, and how many each row has [rows]."""
    longest = max(map(len, pieces))
    tokens = np.zeros((rows, min(power(longest, SMALLEST), kv.PIECE)), np.int32)
    counts = np.zeros(rows, np.int32)
    for row, piece in enumerate(pieces):
        tokens[row, : len(piece)] = piece
        counts[row] = len(piece)
    return tokens, counts


def check_prompts(config: GemmaConfig, prompts: Sequence[Sequence[int]]) -> None:
    """Raises GenerationError for a prompt without tokens or one that fills the context."""
    for number, prompt in enumerate(prompts, 1):
        which = f"prompt {number}" if len(prompts) > 1 else "the prompt"
        if not prompt:
            raise GenerationError(f"{which} is empty", "at least one token")
        if len(prompt) > config.max_positions:
            raise GenerationError(
                f"{which} is {len(prompt)} tokens long",
                f"at most {config.max_positions}, the model's context", "shorten it",
            )  # fmt: skip
