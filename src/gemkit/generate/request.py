"""A request, its answer, and the row of the batch that makes it; the batch as arrays."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gemkit.errors import GemkitError
from gemkit.generate.decode import FIRST, STOPS, Rows
from gemkit.generate.draft import Pace
from gemkit.generate.sampling import Draws, Sampling, bias_row, make_draws, prompt_counts

Slots = Sequence["Row | None"]


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
      prompt: token ids, at least one.
      limit: most new tokens.
      stop_ids: the answer ends at one of these, which is not part of it.
      sampling: how tokens are chosen; its `forced` ones begin the answer.
      prompt_log_probs: score the prompt too.
      draft: try prompt lookup; the answer is the same.
      allowed: for constrained answers: the answer so far → bool [V], which tokens may follow.
        Everything is then decoded one token a call.
    """

    prompt: tuple[int, ...]
    limit: int
    stop_ids: tuple[int, ...] = ()
    sampling: Sampling = Sampling()
    prompt_log_probs: bool = False
    draft: bool = False
    allowed: Callable[[Sequence[int]], np.ndarray] | None = None


class Answer:
    """One request's answer as it grows.

    Attributes:
      tokens: new tokens so far, the stop left out.
      log_probs: their log-probabilities under the model.
      prompt_log_probs: those of the prompt from its second token on, if asked for.
      ended: "" while it grows, then "stop", "limit", "cancelled" or "failed". An answer for which
        mask and bans leave no token ends like at a stop.
      error: why it failed.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.tokens: list[int] = []
        self.log_probs: list[float] = []
        self.prompt_log_probs: list[float] = []
        self.ended = ""
        self.error: GemkitError | None = None
        self._given = 0

    def take(self) -> list[int]:
        """The tokens since the last call."""
        new = self.tokens[self._given :]
        self._given = len(self.tokens)
        return new


@dataclasses.dataclass
class Row:
    """A request in a slot.

    Attributes:
      number: of its arrival.
      sequence: prompt, forced tokens and answer.
      read: how many of these the cache holds.
      left: tokens it may still make.
      scores: log-probabilities of what was read, from the token `scored_from` on.
      keys: of the full blocks of the prompt, for the prefix cache.
      kept: blocks that went to the prefix cache, or came from it.
      live: its prompt is read but for a few tokens, it decodes.
    """

    answer: Answer
    number: int
    sequence: list[int]
    left: int
    scored_from: int
    keys: list[bytes]
    read: int = 0
    kept: int = 0
    live: bool = False
    scores: list[float] = dataclasses.field(default_factory=list)
    pace: Pace = dataclasses.field(default_factory=Pace)

    @property
    def unread(self) -> int:
        """Tokens to read before the newest one."""
        return len(self.sequence) - 1 - self.read

    @property
    def ready(self) -> bool:
        """The next pass can read all that is known, and nothing of it is to be scored."""
        return not self.unread or (
            self.unread < FIRST and self.scored_from >= len(self.sequence)
        )


@dataclasses.dataclass
class Settings:
    """How the tokens of a batch are chosen, as `sampling.next_tokens` takes it."""

    draws: Draws
    counts: Any
    bias: Any


def settings_of(slots: Slots, vocabulary: int) -> Settings:
    """The settings of all rows; free slots are greedy ones."""
    samplings = [row.answer.request.sampling if row else Sampling() for row in slots]
    draws = make_draws(samplings, vocabulary)
    counts = bias = None
    if draws.penalised:
        counts = np.stack([_counts(row, vocabulary) for row in slots])
    biases = [bias_row(sampling, vocabulary) for sampling in samplings]
    if any(row is not None for row in biases):
        neutral = np.zeros(vocabulary, np.float32)
        bias = np.stack([neutral if row is None else row for row in biases])
    return Settings(draws, counts, bias)


def _counts(row: Row | None, vocabulary: int) -> np.ndarray:
    if row is None:
        return np.zeros(vocabulary, np.int32)
    prompt = len(row.answer.request.prompt)
    answer = np.bincount(np.asarray(row.sequence[prompt:], np.int64), minlength=vocabulary)
    return prompt_counts(row.sequence[:prompt], vocabulary) + 2 * answer.astype(np.int32)


def allowed_of(slots: Slots, vocabulary: int) -> np.ndarray | None:
    """Which tokens may follow in each row, bool [B, V]; None if no live row is constrained.

    A row whose constraint fails gets its error and may end.
    """
    asking = [
        (slot, row) for slot, row in enumerate(slots)
        if row is not None and row.live and row.answer.request.allowed is not None
    ]  # fmt: skip
    if not asking:
        return None
    allowed = np.ones((len(slots), vocabulary), bool)
    for slot, row in asking:
        assert row.answer.request.allowed is not None
        try:
            allowed[slot] = row.answer.request.allowed(row.answer.tokens)
        except GemkitError as error:
            row.answer.error, allowed[slot] = error, False
    return allowed


def arrays_of(slots: Slots, drafting: Sequence[int], capacity: int) -> Rows:
    """The live rows for the device; a history [B, capacity] if some of them draft."""
    most = max(len(row.answer.request.stop_ids) if row else 0 for row in slots)
    stops = np.full((len(slots), (most // STOPS + 1) * STOPS), -1, np.int32)
    unread, left = np.zeros((2, len(slots)), np.int32)
    width = FIRST if any(row is not None and row.live and row.unread for row in slots) else 1
    tokens = np.zeros((len(slots), width), np.int32)
    live, drafts = np.zeros((2, len(slots)), bool)
    drafts[list(drafting)] = True
    history = np.zeros((len(slots), capacity), np.int32) if drafting else None
    for slot, row in enumerate(slots):
        if row is None or not row.live:
            continue
        live[slot], unread[slot], left[slot] = True, row.unread + 1, row.left
        tokens[slot, : row.unread + 1] = row.sequence[row.read :]
        stops[slot, : len(row.answer.request.stop_ids)] = row.answer.request.stop_ids
        if history is not None:
            history[slot, : len(row.sequence)] = row.sequence
    return Rows(tokens, unread, live, left, stops, drafts, history)
