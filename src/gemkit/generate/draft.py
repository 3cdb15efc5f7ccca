"""Drafts without a second model: what followed the last time the text ended like this.

Prompt lookup (Saxena 2023): an answer that edits or quotes its prompt repeats it for long
stretches, so the tokens that followed an earlier place with the same last few tokens are a good
guess. A guess costs nothing to make, and the model reads all of it in one forward pass.
"""

import dataclasses

import jax
import jax.numpy as jnp

LONGEST, SHORTEST = 6, 2
"""Tokens at the end that are looked for; with fewer than `SHORTEST` alike nothing is drafted."""
DRAFT, TRIAL = 7, 3
"""Most tokens drafted at once: where `LONGEST` agree, and where fewer do."""
WORTH = 0.7
"""Accepted tokens per forward pass below which drafting does not pay."""
PAUSE = 32
"""Tokens a row makes without drafts after they did not pay."""


def propose(history: jax.Array, newest: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Guesses the next tokens of every row from its own text.

    The place whose last tokens agree longest (up to `LONGEST`) wins, the latest of several. Fewer
    that agree are less to go by, so that at most `TRIAL` count.

    Args:
      history: [B, C] int32, the tokens of each row.
      newest: [B] int32, index of each row's newest token.
      size: most tokens guessed.

    Returns:
      Guesses [B, size] and how many of them count [B], from the left.

    >>> guess, count = propose(jnp.asarray([[5, 6, 7, 8, 5, 6, 0]]), jnp.asarray([5]), 3)
    >>> guess.tolist(), count.tolist()
    ([[7, 8, 5]], [3])
    """
    batch, width = history.shape
    index = jnp.arange(width, dtype=jnp.int32)
    agreed = jnp.zeros((batch, width), jnp.int32)
    alike = index[None] < newest[:, None]
    for back in range(LONGEST):
        place = jnp.maximum(newest - back, 0)[:, None]
        wanted = jnp.take_along_axis(history, place, axis=1)
        before = jnp.pad(history, ((0, 0), (back, 0)), constant_values=-1)[:, :width]
        alike &= before == wanted
        agreed += alike.astype(jnp.int32)
    best = jnp.where(agreed >= SHORTEST, agreed * width + index, -1).max(axis=1)
    start = jnp.remainder(best, width) + 1
    # What follows may end before the guess does: then the text is taken to repeat itself.
    period = jnp.maximum(newest - start + 1, 1)[:, None]
    columns = jnp.remainder(jnp.arange(size, dtype=jnp.int32), period)
    guess = jnp.take_along_axis(history, start[:, None] + columns, axis=1, mode="clip")
    trusted = jnp.where(best >= LONGEST * width, size, min(TRIAL, size))
    return guess, jnp.where(best >= 0, trusted, 0)


@dataclasses.dataclass
class Pace:
    """Whether drafting pays for a row: judged by what was accepted, so that runs repeat.

    Attributes:
      mean: running mean of accepted tokens per forward pass that had a draft.
      pause: tokens to make before the next try.
    """

    mean: float = 2 * WORTH
    pause: int = 0

    def drafts(self) -> bool:
        """Whether the row drafts now."""
        return self.pause == 0

    def made(self, tokens: int, passes: int, accepted: int) -> None:
        """Takes in that the row made `tokens`; of its forward passes `passes` had a draft."""
        if self.pause:
            self.pause = max(0, self.pause - tokens)
            return
        for _ in range(passes):
            self.mean += 0.2 * (accepted / passes - self.mean)
        if self.mean < WORTH:
            self.mean, self.pause = 2 * WORTH, PAUSE
