"""One engine for all that a model is asked: what was read for one call serves the next."""

import dataclasses
import functools
from collections.abc import Callable, Generator, Sequence

import jax.numpy as jnp
import numpy as np

from gemkit.answering.options import CONSTRAINTS, Options
from gemkit.answering.reply import Reply, Writer
from gemkit.errors import GenerationError, UsageError
from gemkit.generate.beam import beam_search
from gemkit.generate.engine import Engine
from gemkit.generate.prefix import PrefixCache
from gemkit.generate.request import Request
from gemkit.generate.sampling import Sampling, best_first, seeds
from gemkit.generate.score import Progress, score_continuations
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params
from gemkit.text.banned import BannedText
from gemkit.text.constrain import Constraint, Constraints
from gemkit.text.stops import StopText
from gemkit.text.tokenizer import Tokenizer

NEW_TOKENS = 256
"""Most new tokens where neither a limit nor the context says otherwise."""
BATCH_STEPS, STREAM_STEPS = 32, 4
"""Forward passes between two looks at the text."""
CACHE_DTYPES = ("float32", "bfloat16", "int8")
SLOTS = 16
"""Most answers made at a time; further prompts wait for a free place."""

Allowed = Callable[[Sequence[int]], np.ndarray]
Over = Callable[[str], bool]


class Answerer:
    """Answers prompts with one model's weights.

    Attributes:
      params, settings: what it was made for; for others make another one, since caches hold
        nothing else.
    """

    def __init__(
        self, params: Params, config: GemmaConfig, tokenizer: Tokenizer | None,
        cache_dtype: str | None, prefix_bytes: int,
    ) -> None:  # fmt: skip
        """Args:
        tokenizer: only scoring does without.
        cache_dtype: of keys and values; None for that of the weights.
        prefix_bytes: memory for prompt starts; 0 keeps none.

        Raises:
          UsageError: a setting out of range.
        """
        check_cache(cache_dtype, prefix_bytes)
        self.params, self.settings = params, (tokenizer, cache_dtype, prefix_bytes)
        self._config, self._tokenizer, self._dtype = config, tokenizer, cache_dtype
        self._prefixes = PrefixCache(prefix_bytes) if prefix_bytes else None
        self._engine = Engine(params, config, SLOTS, 1, cache_dtype, self._prefixes)
        self._constraints: dict[tuple[int, ...], Constraints] = {}
        self._last_banned: tuple[tuple[str, ...], BannedText] | None = None

    def replies(
        self, prompts: Sequence[Sequence[int]], options: Options, ends: Sequence[int] = (),
        overs: Sequence[Over] = (), progress: Progress | None = None,
    ) -> list[list[Reply]]:  # fmt: skip
        """Per prompt its `n` answers.

        Args:
          ends: tokens that end an answer beside the ends of text and of a turn.
          overs: for each prompt, whether an answer needs no more text; or none.
          progress: called with (answers done, answers in all); not for beams.

        Raises:
          GenerationError: a prompt that is empty or fills the context.
          UsageError: a constraint that is invalid, or options that do not fit the model.
        """
        if options.beams is not None:
            found = self._beams(prompts, options, ends)
        else:
            asked = self._requests(prompts, options, ends)
            found = self._answered(asked, options, overs, progress)
        if options.best_of is not None:
            ranks = [best_first([reply.log_probs for reply in row]) for row in found]
            found = [[row[place] for place in rank] for row, rank in zip(found, ranks, strict=True)]
        return [row[: options.n] for row in found]

    def stream(
        self, prompt: Sequence[int], options: Options, ends: Sequence[int] = ()
    ) -> Generator[str, None, None]:
        """One answer in pieces as they come; closing it gives up the rest."""
        for name in ("n", "best_of", "beams"):
            if (getattr(options, name) or 1) > 1:
                raise UsageError(
                    f"{name} is {getattr(options, name)} in a stream", "one answer",
                    "streams show an answer while it is made",
                )  # fmt: skip
        ((request,),) = self._requests([prompt], options, ends)
        writer = self._writer(request, options, None)
        try:
            while not writer.done:
                self._engine.step(STREAM_STEPS)
                piece = writer.advance()
                if piece:
                    yield piece
        finally:
            writer.close()

    def score(
        self, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]],
        progress: Progress | None = None,
    ) -> np.ndarray:  # fmt: skip
        """`score_continuations`, with starts that were read before."""
        own = jnp.dtype(self.params["embed"].dtype)
        same = self._dtype is None or jnp.dtype(self._dtype) == own
        return score_continuations(
            self.params, self._config, prompts, continuations, progress,
            self._prefixes if same else None,
        )  # fmt: skip

    def limits(self, prompts: Sequence[Sequence[int]], options: Options) -> list[int]:
        """Most new tokens for each prompt.

        Raises:
          GenerationError: a prompt that leaves no room for an answer.
        """
        context, length = self._config.max_positions, options.max_length
        limits = []
        for number, prompt in enumerate(prompts, 1):
            which = f"prompt {number}" if len(prompts) > 1 else "the prompt"
            said, room = f"{which} is {len(prompt)} tokens long", context - len(prompt)
            if room < 1:
                raise GenerationError(
                    said, f"fewer than {context}, the model's context", "shorten it"
                )  # fmt: skip
            wanted = NEW_TOKENS if options.max_new_tokens is None else options.max_new_tokens
            if length is not None:
                wanted = length - len(prompt)
                if wanted < 1:
                    raise GenerationError(
                        f"{said} and max_length is {length}", "a longer max_length",
                        "it counts the prompt too",
                    )  # fmt: skip
            limits.append(min(wanted, room))
        return limits

    def _answered(
        self, asked: Sequence[Sequence[Request]], options: Options, overs: Sequence[Over] = (),
        progress: Progress | None = None,
    ) -> list[list[Reply]]:  # fmt: skip
        writers: list[list[Writer]] = []
        try:
            for number, requests in enumerate(asked):
                over = overs[number] if overs else None
                writers.append([self._writer(request, options, over) for request in requests])
            waiting = [writer for row in writers for writer in row]
            count = len(waiting)
            while waiting := [writer for writer in waiting if not writer.done]:
                self._engine.step(STREAM_STEPS if overs else BATCH_STEPS)
                for writer in waiting:
                    writer.advance()
                if progress is not None:
                    progress(count - sum(not writer.done for writer in waiting), count)
            return [[writer.reply() for writer in row] for row in writers]
        finally:
            for row in writers:
                for writer in row:
                    writer.close()

    def _writer(self, request: Request, options: Options, over: Over | None) -> Writer:
        stops = StopText(self._words.stream(), options.stops)
        return Writer(self._engine, request, self._words, stops, over)

    def _requests(
        self, prompts: Sequence[Sequence[int]], options: Options, ends: Sequence[int]
    ) -> list[list[Request]]:
        """For each prompt a request for every answer that is drawn."""
        sampling, ends = options.sampling(self._words), self._ends(ends)
        masks = self._masks(options, ends, sampling.forced)
        drawn = [
            dataclasses.replace(sampling, seed=seed)
            for seed in seeds(sampling.seed, options.answers)
        ]
        return [
            [
                Request(
                    tuple(prompt), limit, ends, one, options.prompt_log_probs, options.draft,
                    masks(),
                )
                for one in drawn
            ]
            for prompt, limit in zip(prompts, self.limits(prompts, options), strict=True)
        ]  # fmt: skip

    def _beams(
        self, prompts: Sequence[Sequence[int]], options: Options, ends: Sequence[int]
    ) -> list[list[Reply]]:
        """What a beam search finds; the engine then reads it, for its text and log p."""
        assert options.beams is not None
        ends, found = self._ends(ends), []
        for prompt, limit in zip(prompts, self.limits(prompts, options), strict=True):
            beams = beam_search(
                self.params, self._config, prompt, options.beams, limit, ends, dtype=self._dtype
            )[: options.n]  # fmt: skip
            requests = [
                Request(
                    tuple(prompt), len(beam.tokens), sampling=Sampling(forced=beam.tokens),
                    prompt_log_probs=options.prompt_log_probs,
                )
                for beam in beams
            ]  # fmt: skip
            replies = self._answered([requests], options)[0]
            found.append([
                dataclasses.replace(reply, ended="stop") if beam.ended else reply
                for reply, beam in zip(replies, beams, strict=True)
            ])  # fmt: skip
        return found

    def _masks(
        self, options: Options, ends: tuple[int, ...], forced: Sequence[int]
    ) -> Callable[[], Allowed | None]:
        """Makes, for one answer after the other, what says which tokens may follow."""
        constraint, banned = self._constraint(options, ends), self._banned(options.banned_texts)
        _check_forced(self._words, forced, constraint, options.banned_texts)

        def mask() -> Allowed | None:
            own = None if constraint is None else constraint.copy().after
            if own is None or banned is None:
                return own if banned is None else banned.allowed
            return lambda answer: own(answer) & banned.allowed(answer)

        return mask

    def _constraint(self, options: Options, ends: tuple[int, ...]) -> Constraint | None:
        asked = [name for name in CONSTRAINTS if getattr(options, name) is not None]
        if not asked:
            return None
        if ends not in self._constraints:
            size = self._config.vocab_size
            self._constraints[ends] = Constraints(self._words, ends, size)
        made: Constraint = getattr(self._constraints[ends], asked[0])(getattr(options, asked[0]))
        return made

    def _banned(self, texts: tuple[str, ...]) -> BannedText | None:
        if not texts:
            return None
        if self._last_banned is None or self._last_banned[0] != texts:
            made = BannedText(self._pieces, texts, self._config.vocab_size)
            self._last_banned = texts, made
        return self._last_banned[1]

    def _ends(self, more: Sequence[int]) -> tuple[int, ...]:
        end = self._words.end_of_turn_id
        return tuple(sorted({self._words.eos_id, *more} | ({end} if end is not None else set())))

    @functools.cached_property
    def _pieces(self) -> list[bytes]:
        words = self._words
        return [words.token_bytes(token) for token in range(words.vocab_size)]

    @property
    def _words(self) -> Tokenizer:
        assert self._tokenizer is not None, "only scoring does without a tokenizer"
        return self._tokenizer


def check_cache(cache_dtype: str | None, prefix_bytes: int) -> None:
    """Raises UsageError for settings of the caches that cannot be."""
    if cache_dtype is not None and cache_dtype not in CACHE_DTYPES:
        raise UsageError(f"cache_dtype is {cache_dtype}", f"one of {', '.join(CACHE_DTYPES)}")
    if prefix_bytes < 0:
        raise UsageError(f"prefix_bytes is {prefix_bytes}", "at least 0")


def _check_forced(
    tokenizer: Tokenizer, forced: Sequence[int], constraint: Constraint | None,
    banned: Sequence[str],
) -> None:  # fmt: skip
    if not forced:
        return
    text = tokenizer.decode(forced)
    for held in banned:
        if held in text:
            raise UsageError(f"the answer must begin with {text!r}, which holds {held!r}",
                             "another beginning, or that text not banned")  # fmt: skip
    if constraint is not None:
        try:
            constraint.copy().after(forced)
        except GenerationError:
            raise UsageError(
                f"the answer must begin with {text!r}, which the constraint does not allow",
                "a beginning that fits",
            ) from None
