"""Continuous batching: requests join and leave at any step, each answered as if it were alone.

The host keeps the truth about every row (its tokens and how many of them the cache holds) and
sends it with each call; the device keeps the cache. A row is ready to decode when all but a few
of its tokens are in the cache; until then its prompt is read, a piece a step, while the others go
on.

What is guaranteed: a row's arithmetic never looks at another row, and every draw is keyed by seed
and position. Programs for another number of rows, another piece length or a draft may add floats
in another order, so logits may differ in their last bits; an answer can only change where two
tokens are that close to a tie. With `least=slots` every decode step has one shape.
"""

import collections
import itertools
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from gemkit.generate.decode import (
    Made,
    check_prompts,
    decode_steps,
    pad_right,
    power,
    prefill,
    token_log_probs,
)
from gemkit.generate.draft import DRAFT
from gemkit.generate.prefix import PrefixCache, read_block, write_block
from gemkit.generate.request import (
    Answer,
    Request,
    Row,
    Settings,
    allowed_of,
    arrays_of,
    settings_of,
)
from gemkit.generate.sampling import make_draws
from gemkit.model import cache as kv
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params

STEPS = 32
"""Forward passes of a step unless told otherwise."""
BETWEEN = 4
"""Forward passes between two pieces of prompts, so that new rows soon share the passes."""
ROOM = 64
"""Most tokens of a row made in one call of the device."""
AHEAD = 512
"""Tokens of an answer for which a joining row gets room at once; more is added when needed."""
SHORTEST = 64
"""Least capacity of the cache; capacities are powers of two."""


class Engine:
    """Rows of a cache and the requests that use them.

    >>> engine = Engine(params, config, slots=4)                        # doctest: +SKIP
    >>> first = engine.add(Request((2, 651), limit=20, stop_ids=(1,)))  # doctest: +SKIP
    >>> while engine.running():                                         # doctest: +SKIP
    ...     engine.step()
    ...     print(first.take())
    """

    def __init__(
        self, params: Params, config: GemmaConfig, slots: int = 8, least: int = 1,
        dtype: Any = None, prefixes: PrefixCache | None = None,
    ) -> None:  # fmt: skip
        """An engine without requests.

        Args:
          slots: most requests answered at a time, a power of two; others wait.
          least: rows are never fewer; powers of two up to `slots` are compiled as needed.
          dtype: of keys and values: that of the weights, or "int8".
          prefixes: where prompt starts are kept; None keeps none.
        """
        self._params, self._config, self._prefixes = params, config, prefixes
        self._slots, self._least = power(slots), power(least)
        self._dtype = params["embed"].dtype if dtype is None else dtype
        self._rows: list[Row | None] = []
        self._waiting: collections.deque[Row] = collections.deque()
        self._cache: kv.KVCache | None = None
        self._length = 0
        self._settings: Settings | None = None
        self._arrivals = itertools.count()
        self._shortest_first = False

    @property
    def cache_bytes(self) -> int:
        """Memory of keys and values, prefix cache left out."""
        held = (self._cache.keys, self._cache.values) if self._cache else ()
        return sum(leaf.nbytes for leaf in jax.tree.leaves(held))

    def add(self, request: Request) -> Answer:
        """Takes a request in; it joins at the next step with a free slot.

        Raises:
          GenerationError: a prompt without tokens, or longer than the model's context.
          UsageError: a token in its settings that is not in the vocabulary.
        """
        check_prompts(self._config, [request.prompt])
        make_draws([request.sampling], self._config.vocab_size)
        answer, prompt = Answer(request), list(request.prompt)
        limit = min(request.limit, self._config.max_positions - len(prompt))
        if limit <= 0:
            answer.ended = "limit"
            return answer
        forced = list(request.sampling.forced[:limit])
        sequence = prompt + forced
        scored_from = 1 if request.prompt_log_probs else len(prompt) if forced else len(sequence)
        keys = self._prefixes.keys(sequence) if self._prefixes else []
        left, number = limit - len(forced), next(self._arrivals)
        self._waiting.append(Row(answer, number, sequence, left, scored_from, keys))
        return answer

    def running(self) -> bool:
        """Whether some answer may still grow."""
        return bool(self._waiting) or any(self._rows)

    def step(self, passes: int = STEPS) -> None:
        """Lets requests join, reads one piece of prompts, then makes up to `passes` tokens a row.

        A row that drafts may make more. Whatever interrupts a step ends all answers, since the
        device may have been given the cache; later requests are served.
        """
        try:
            self._admit()
            self._read()
            reading = any(row is not None and not row.live for row in self._rows)
            self._decode(min(passes, BETWEEN if reading else ROOM))
        except BaseException:
            for row in (*self._rows, *self._waiting):
                if row is not None:
                    row.answer.ended = "cancelled"
            self._rows, self._cache, self._length, self._settings = [], None, 0, None
            self._waiting.clear()
            raise

    def stream(self, request: Request, passes: int = STEPS) -> Iterator[list[int]]:
        """The answer to a request in pieces, whatever else is answered meanwhile."""
        answer = self.add(request)
        try:
            while not answer.ended:
                self.step(passes)
                new = answer.take()
                if new:
                    yield new
        finally:
            self.cancel(answer)

    def cancel(self, answer: Answer) -> None:
        """Ends an answer; nothing happens if it has ended."""
        self._waiting = collections.deque(r for r in self._waiting if r.answer is not answer)
        for slot, row in enumerate(self._rows):
            if row is not None and row.answer is answer:
                self._leave(slot, "cancelled")
        answer.ended = answer.ended or "cancelled"

    def _admit(self) -> None:
        """Gives waiting requests the free slots, after making room for them."""
        active = [row for row in self._rows if row is not None]
        joining = [
            self._waiting.popleft()
            for _ in range(min(len(self._waiting), self._slots - len(active)))
        ]
        if not joining:
            return
        length = max(len(row.sequence) + min(row.left, AHEAD) for row in joining)
        self._reserve(power(len(active) + len(joining), self._least), length, anew=not active)
        free = (slot for slot, row in enumerate(self._rows) if row is None)
        for slot, row in zip(free, joining, strict=False):
            self._rows[slot] = row
        self._settings = None

    def _reserve(self, rows: int, length: int, anew: bool = False) -> None:
        """Makes the cache large enough; `anew` may make it smaller."""
        shape = (rows, power(length, SHORTEST))
        if self._cache is not None and not anew:
            shape = (max(shape[0], len(self._rows)), max(shape[1], self._length))
        if self._cache is not None and shape == (len(self._rows), self._length):
            return
        if self._cache is None or anew:
            self._cache = None
            self._cache = kv.init_cache(self._config, *shape, self._dtype)
        else:
            self._cache = kv.grown(self._cache, self._config, *shape)
        self._rows += [None] * (shape[0] - len(self._rows))
        del self._rows[shape[0] :]
        self._length, self._settings = shape[1], None

    def _read(self) -> None:
        """Reads a piece of the prompts that wait for it, the shortest or the oldest first."""
        for slot, row in enumerate(self._rows):
            if row is not None and not row.live:
                self._reuse(slot, row)
        pending = [(slot, row) for slot, row in enumerate(self._rows) if row and not row.ready]
        if pending:
            # In turns: a short prompt passes a long one, and the long one is not forgotten.
            self._shortest_first ^= True
            first = "unread" if self._shortest_first else "number"
            pending.sort(key=lambda pair: getattr(pair[1], first))
            self._read_piece(self._group(pending))
        for slot, row in enumerate(self._rows):
            if row is not None and not row.live and row.ready:
                self._begin(slot, row)

    def _group(self, pending: list[tuple[int, Row]]) -> list[tuple[int, Row]]:
        """The rows of the next piece: as many as fit beside the first without widening it."""
        group: list[tuple[int, Row]] = []
        starts: set[bytes] = set()
        width = min(power(pending[0][1].unread), kv.PIECE)
        for slot, row in pending:
            # Of several that start alike one is read first; the others find it in the cache.
            upcoming = row.keys[row.read // self._prefixes.block :] if self._prefixes else []
            if upcoming and upcoming[0] in starts:
                continue
            starts.update(upcoming[:1])
            if power(len(group) + 1) * width <= kv.PIECE and min(row.unread, kv.PIECE) <= width:
                group.append((slot, row))
        return group

    def _read_piece(self, group: list[tuple[int, Row]]) -> None:
        pieces = [row.sequence[row.read :][: min(row.unread, kv.PIECE)] for _, row in group]
        tokens, counts = pad_right(pieces, power(len(group)))
        slots = np.full(len(counts), len(self._rows), np.int32)
        slots[: len(group)] = [slot for slot, _ in group]
        ends = [row.read + len(piece) for (_, row), piece in zip(group, pieces, strict=True)]
        wanted = any(end >= row.scored_from for (_, row), end in zip(group, ends, strict=True))
        states, self._cache = prefill(
            self._params, self._config, self._placed(), slots, tokens, counts, wanted
        )
        for place, (slot, row) in enumerate(group):
            begin, row.read = row.read, ends[place]
            if row.read >= row.scored_from:
                assert states is not None
                targets = np.zeros(tokens.shape[1], np.int32)
                following = row.sequence[begin + 1 : row.read + 1]
                targets[: len(following)] = following
                found = token_log_probs(self._params, self._config, states[place], targets)
                skipped = max(0, row.scored_from - 1 - begin)
                row.scores += np.asarray(found)[skipped : len(following)].tolist()
            self._remember(slot, row)

    def _begin(self, slot: int, row: Row) -> None:
        """The prompt is read, but for what the next pass reads: from here on the row decodes."""
        request, answer = row.answer.request, row.answer
        row.live = True
        forced = row.sequence[len(request.prompt) :]
        answer.tokens += forced
        answer.log_probs += row.scores[len(row.scores) - len(forced) :]
        if request.prompt_log_probs:
            answer.prompt_log_probs += row.scores[: len(request.prompt) - 1]
        if row.left == 0:
            self._leave(slot, "limit")

    def _decode(self, passes: int) -> None:
        live = [(slot, row) for slot, row in enumerate(self._rows) if row is not None and row.live]
        if not live:
            return
        allowed = allowed_of(self._rows, self._config.vocab_size)
        passes = passes if allowed is None else 1
        drafting = [
            slot for slot, row in live
            if row.answer.request.draft and allowed is None and row.pace.drafts()
            # A guess further on would be drawn without the penalty of the guesses before it.
            and not row.answer.request.sampling.penalised
        ]  # fmt: skip
        draft = DRAFT if drafting else 0
        most = min(ROOM, passes * (1 + draft))
        longest = max(len(row.sequence) + min(row.left, most) for _, row in live)
        self._reserve(len(self._rows), longest)
        if self._settings is None:
            self._settings = settings_of(self._rows, self._config.vocab_size)
        settings = self._settings
        self._cache, settings.counts, made = decode_steps(
            self._params, self._config, self._placed(),
            arrays_of(self._rows, drafting, self._length), settings.draws, settings.counts,
            settings.bias, allowed, np.int32(passes), draft, ROOM,
        )  # fmt: skip
        self._take_in(live, jax.tree.map(np.asarray, made))

    def _take_in(self, live: list[tuple[int, Row]], made: Made) -> None:
        for slot, row in live:
            count = int(made.count[slot])
            new = made.tokens[slot, :count].tolist()
            row.left -= count
            row.pace.made(count, int(made.passes[slot]), int(made.accepted[slot]))
            stopped = new[-1] in row.answer.request.stop_ids or new[-1] < 0
            new = new[:-1] if stopped else new
            row.sequence += new
            row.read = len(row.sequence) - 1
            row.answer.tokens += new
            row.answer.log_probs += made.log_probs[slot, : len(new)].tolist()
            if row.answer.error is not None:
                self._leave(slot, "failed")
            elif stopped or row.left == 0:
                self._leave(slot, "stop" if stopped else "limit")

    def _leave(self, slot: int, why: str) -> None:
        row = self._rows[slot]
        assert row is not None
        if self._prefixes is not None and row.live:
            row.keys = self._prefixes.keys(row.sequence)
            self._remember(slot, row)
        row.answer.ended = why
        self._rows[slot] = None

    def _reuse(self, slot: int, row: Row) -> None:
        """Takes blocks that were read before, as far as nothing in them is to be scored."""
        if self._prefixes is None:
            return
        size = self._prefixes.block
        usable = row.keys[: (row.scored_from - 1) // size]
        found = self._prefixes.match(usable)
        if found * size <= row.read:
            return
        self._prefixes.touch(usable[:found])
        for number in range(row.read // size, found):
            self._cache = write_block(
                self._placed(), np.int32(slot), np.int32(number * size),
                self._prefixes[usable[number]],
            )  # fmt: skip
        row.read, row.kept = found * size, found

    def _remember(self, slot: int, row: Row) -> None:
        """Keeps the full blocks that are new, unless a ring has forgotten a part of them."""
        if self._prefixes is None or self._cache is None:
            return
        size = self._prefixes.block
        slots = {kv.capacity(keys) for keys in self._cache.keys}
        # A rejected draft may lie where a ring had its oldest tokens.
        rings = min((n - DRAFT for n in slots if n < self._length), default=math.inf)
        for number in range(row.kept, row.read // size):
            start = number * size
            if row.read - start > rings or len(row.keys) <= number:
                return
            if row.keys[number] not in self._prefixes:
                arrays = read_block(self._cache, np.int32(slot), np.int32(start), size)
                if not self._prefixes.put(row.keys[: number + 1], arrays):
                    return
            row.kept = number + 1

    def _placed(self) -> kv.KVCache:
        """The cache with the lengths as the host knows them."""
        assert self._cache is not None
        lengths = [row.read if row is not None else 0 for row in self._rows]
        return kv.KVCache(self._cache.keys, self._cache.values, np.asarray(lengths, np.int32))
