"""Decoding a batch of prompts: bucketed prefill, then a loop that runs on the device.

Speaks token ids only. Shapes come from short lists of buckets, so that few programs are compiled;
prompts are padded on the left (see `model.cache`), rows up to a power of two.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.errors import GenerationError
from gemkit.generate.sampling import Draw, Sampling, make_draw, next_tokens
from gemkit.model import transformer
from gemkit.model.cache import PIECE, KVCache, init_cache
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params

SMALLEST = 16
STOPS = 8
"""Stop ids are padded to a multiple of this, so that their number does not compile anew."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """What the loop carries.

    Attributes:
      cache: keys and values of everything but the newest token.
      tokens: [B] the newest token of each row.
      positions: [B] where it stands.
      done: [B] rows that have ended.
      limits: [B] tokens each row may have in all.
      made: [B, C] new tokens of this call; -1 after a row's end.
      seen: [B, V] tokens of prompt and answer, None without a repetition penalty.
    """

    cache: KVCache
    tokens: jax.Array
    positions: jax.Array
    done: jax.Array
    limits: jax.Array
    made: jax.Array
    seen: jax.Array | None


def bucket(count: int, smallest: int = SMALLEST) -> int:
    """The length `count` is padded to: powers of two and their halves between, then pieces.

    >>> [bucket(n) for n in (1, 17, 25, 65, 600)]
    [16, 24, 32, 96, 1024]
    """
    if count > PIECE:
        return -(-count // PIECE) * PIECE
    size = smallest
    while size < count:
        size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
    return size


def rows_bucket(count: int) -> int:
    """The next power of two."""
    return 1 << (count - 1).bit_length()


@functools.partial(jax.jit, static_argnames="config", donate_argnames="cache")
def prefill(
    params: Params, config: GemmaConfig, tokens: jax.Array, positions: jax.Array, cache: KVCache
) -> tuple[jax.Array, KVCache]:
    """Writes a piece [B, T] of the prompts; returns the last column's states [B, D] too."""
    states, cache = transformer.hidden_cached(params, config, tokens, positions, cache)
    return states[:, -1], cache


@functools.partial(jax.jit, static_argnames=("config", "room"))
def first_tokens(
    params: Params, config: GemmaConfig, states: jax.Array, cache: KVCache, positions: jax.Array,
    limits: jax.Array, stops: jax.Array, seen: jax.Array | None, draw: Draw, room: int,
) -> State:  # fmt: skip
    """The state after the prompts, each row's first new token drawn. `room` is made's width."""
    logits = transformer.logits(params, config, states)
    tokens = next_tokens(logits, draw, positions, seen)
    done = limits <= 0
    made = jnp.full((len(limits), room), -1, jnp.int32).at[:, 0].set(jnp.where(done, -1, tokens))
    done |= jnp.isin(tokens, stops) | (limits <= 1)
    return State(cache, tokens, positions, done, limits - 1, made, _add(seen, tokens))


@functools.partial(jax.jit, static_argnames="config", donate_argnames="state")
def decode_steps(
    params: Params, config: GemmaConfig, state: State, stops: jax.Array, draw: Draw,
    start: jax.Array, steps: jax.Array,
) -> State:  # fmt: skip
    """Up to `steps` more tokens for every row, written to `made` from column `start` on."""

    def goes_on(carry: tuple[jax.Array, State]) -> jax.Array:
        return (carry[0] < steps) & ~jnp.all(carry[1].done)

    def step(carry: tuple[jax.Array, State]) -> tuple[jax.Array, State]:
        count, s = carry
        # Else XLA:CPU converts bfloat16 weights once, before the loop, and keeps both copies.
        weights, count = jax.lax.optimization_barrier((params, count))
        states, cache = transformer.hidden_cached(
            weights, config, s.tokens[:, None], s.positions[:, None], s.cache
        )
        logits = transformer.logits(weights, config, states[:, 0])
        positions = s.positions + 1
        tokens = next_tokens(logits, draw, positions, s.seen)
        column = jnp.where(s.done, -1, tokens)
        made = jax.lax.dynamic_update_slice(s.made, column[:, None], (jnp.int32(0), start + count))
        done = s.done | jnp.isin(tokens, stops) | (s.limits <= 1)
        seen = _add(s.seen, tokens)
        return count + 1, State(cache, tokens, positions, done, s.limits - 1, made, seen)

    return jax.lax.while_loop(goes_on, step, (jnp.int32(0), state))[1]


def _add(seen: jax.Array | None, tokens: jax.Array) -> jax.Array | None:
    return None if seen is None else seen.at[jnp.arange(tokens.shape[0]), tokens].set(True)


class Decoding:
    """A batch being answered.

    >>> answers = Decoding(params, config, [[2, 651]], [20], (1,), Sampling())  # doctest: +SKIP
    >>> while answers.running():                                              # doctest: +SKIP
    ...     new = answers.advance(8)   # per row, the tokens since the last call
    """

    def __init__(
        self, params: Params, config: GemmaConfig, prompts: Sequence[Sequence[int]],
        limits: Sequence[int], stop_ids: Sequence[int], sampling: Sampling,
    ) -> None:  # fmt: skip
        """Prefills the prompts.

        Args:
          prompts: ids, none empty.
          limits: most new tokens of each row.
          stop_ids: a row ends at one of these, which is not part of its answer.

        Raises:
          GenerationError: a prompt without tokens, or longer than the model's context.
        """
        check_prompts(config, prompts)
        self._params, self._config, self._rows = params, config, len(prompts)
        self._draw = make_draw(sampling, config.vocab_size)
        self._stops = frozenset(stop_ids)
        padded_stops = [*stop_ids, *[-1] * (-len(stop_ids) % STOPS)]
        self._stop_array = jnp.asarray(padded_stops, jnp.int32)
        room = bucket(max(limits))
        tokens, positions = pad_left(prompts, rows_bucket(len(prompts)))
        states, cache = read_prompts(params, config, tokens, positions, room)
        all_limits = np.zeros(len(tokens), np.int32)
        all_limits[: len(limits)] = limits
        self._state = first_tokens(
            params, config, states, cache, jnp.asarray(positions[:, -1] + 1),
            jnp.asarray(all_limits), self._stop_array, self._seen(tokens, positions),
            self._draw, room,
        )  # fmt: skip
        self._made, self._given = 1, 0

    def advance(self, steps: int) -> list[list[int]]:
        """Makes up to `steps` more tokens; per row, those not yet returned, stops left out."""
        steps = min(steps, self._state.made.shape[1] - self._made)
        if self._given and steps > 0 and self.running():
            self._state = decode_steps(
                self._params, self._config, self._state, self._stop_array, self._draw,
                jnp.int32(self._made), jnp.int32(steps),
            )  # fmt: skip
            self._made += steps
        new = np.asarray(self._state.made)[: self._rows, self._given : self._made]
        self._given = self._made
        return [[t for t in row.tolist() if t >= 0 and t not in self._stops] for row in new]

    def running(self) -> bool:
        """Whether some row may still grow, or has tokens not yet returned."""
        return not self._given or not bool(np.asarray(self._state.done).all())

    def finish(self, row: int) -> None:
        """Ends a row, for a stop that only its text shows."""
        self._state = dataclasses.replace(
            self._state, done=self._state.done.at[row].set(True)
        )  # fmt: skip

    def _seen(self, tokens: np.ndarray, positions: np.ndarray) -> jax.Array | None:
        if not self._draw.penalised:
            return None
        seen = np.zeros((len(tokens), self._config.vocab_size), bool)
        rows, columns = np.nonzero(positions >= 0)
        seen[rows, tokens[rows, columns]] = True
        return jnp.asarray(seen)


def read_prompts(
    params: Params, config: GemmaConfig, tokens: np.ndarray, positions: np.ndarray, room: int
) -> tuple[jax.Array, KVCache]:
    """Prefills a fresh cache, piece by piece.

    Args:
      tokens, positions: [B, T] as `pad_left` makes them.
      room: tokens that may follow.

    Returns:
      The last column's states [B, D], and the cache.
    """
    rows, length = tokens.shape
    cache = init_cache(config, rows, length + room, params["embed"].dtype)
    for start in range(0, length, PIECE):
        piece = slice(start, start + PIECE)
        states, cache = prefill(params, config, tokens[:, piece], positions[:, piece], cache)
    return states, cache


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


def pad_left(prompts: Sequence[Sequence[int]], rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts → tokens and positions [rows, T], T a bucket; -1 is the position of padding.

    Rows beyond the prompts hold a single token, so that no row is without a key.
    """
    length = bucket(max(len(prompt) for prompt in prompts))
    tokens = np.zeros((rows, length), np.int32)
    positions = np.full((rows, length), -1, np.int32)
    positions[len(prompts) :, -1] = 0
    for row, prompt in enumerate(prompts):
        tokens[row, length - len(prompt) :] = prompt
        positions[row, length - len(prompt) :] = np.arange(len(prompt))
    return tokens, positions
