"""What a caller may ask for, checked before anything runs."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from gemkit.errors import UsageError
from gemkit.generate.sampling import Sampling
from gemkit.text.tokenizer import Tokenizer

Token = str | int
"""A token by its id, or by a text that is one token."""
CONSTRAINTS = ("choices", "regex", "json_schema")
DRAWN = (
    "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty",
    "frequency_penalty", "seed",
)  # fmt: skip
NOT_WITH_BEAMS = (
    *(name for name in DRAWN if name != "seed"), "logit_bias", "banned", "forced", "best_of",
    *CONSTRAINTS, "draft",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Options:
    """How prompts are answered.

    An answer ends at the end of text, the end of a turn, a `stop` string (left out) or a limit.

    Attributes:
      max_new_tokens: most tokens of an answer; 256 if neither limit is given.
      max_length: most tokens of prompt and answer together.
      temperature: 0 for greedy.
      top_k, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty, seed: see
        `generate.sampling.Sampling`.
      stop: strings that end an answer.
      logit_bias: token → what is added to its logit; a token is its id, or a text that is one.
      banned: strings that no answer holds, however it is cut into tokens, and ids of tokens.
      forced: what every answer begins with: a text, or token ids.
      n: answers per prompt, each with a seed of its own; the first is that of n=1.
      best_of: draw so many and keep the `n` with the highest mean log-probability, best first.
      beams: the `n` likeliest answers by a beam search of this width, instead of drawing.
      choices: the answer is one of these.
      regex: the answer matches it; see `text.constrain` for the syntax.
      json_schema: the answer is JSON of this schema, an object or its text.
      draft: try prompt lookup: quicker where an answer quotes its prompt, the answer is the same.
      prompt_log_probs: score the prompt too.

    Raises:
      UsageError: a value out of range, or options that contradict each other.
    """

    max_new_tokens: int | None = None
    max_length: int | None = None
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: str | Sequence[str] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[Token, float] | None = None
    banned: Token | Sequence[Token] = ()
    forced: str | Sequence[int] = ()
    n: int = 1
    best_of: int | None = None
    beams: int | None = None
    choices: Sequence[str] | None = None
    regex: str | None = None
    json_schema: Mapping[str, Any] | str | None = None
    draft: bool = False
    prompt_log_probs: bool = False

    def __post_init__(self) -> None:
        if not all(self.stops):
            raise UsageError("a stop string is empty", "some text in each")
        self._drawn()
        for name in ("max_new_tokens", "max_length", "n", "best_of", "beams"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}", "at least 1")
        self._only_one_of("max_new_tokens", "max_length")
        self._only_one_of(*CONSTRAINTS)
        if self.beams is not None:
            for name in NOT_WITH_BEAMS:
                self._only_one_of("beams", name)
        for name in ("beams", "best_of"):
            most = getattr(self, name)
            if most is not None and most < self.n:
                raise UsageError(f"n is {self.n} and {name} {most}", f"{name} of at least n")
        if self.answers > 1 and self.temperature == 0 and self.beams is None:
            name = "n" if self.n > 1 else "best_of"
            raise UsageError(
                f"{name} is {self.answers} and temperature 0", "a temperature above 0, or beams",
                "greedy answers would all be the same",
            )  # fmt: skip

    @property
    def answers(self) -> int:
        """How many are drawn for a prompt."""
        return self.n if self.best_of is None else self.best_of

    def sampling(self, tokenizer: Tokenizer) -> Sampling:
        """How tokens are chosen, as the engine takes it; banned strings are left out."""
        bias: dict[int, float] = {}
        for token, value in (self.logit_bias or {}).items():
            bias[_token_id(tokenizer, token)] = float(value)
        forced = tokenizer.encode(self.forced) if isinstance(self.forced, str) else self.forced
        return Sampling(
            **self._drawn(), logit_bias=bias or None, forced=tuple(forced),
            banned=tuple(token for token in self._banned if isinstance(token, int)),
        )  # fmt: skip

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def banned_texts(self) -> tuple[str, ...]:
        """The banned strings."""
        return tuple(text for text in self._banned if isinstance(text, str))

    @property
    def _banned(self) -> tuple[Token, ...]:
        return (self.banned,) if isinstance(self.banned, str | int) else tuple(self.banned)

    def _drawn(self) -> dict[str, Any]:
        given = {name: getattr(self, name) for name in DRAWN}
        Sampling(**given)  # for its checks
        return given

    def _only_one_of(self, *names: str) -> None:
        given = [name for name in names if getattr(self, name) != _DEFAULTS[name]]
        if len(given) > 1:
            raise UsageError(f"both {given[0]} and {given[1]} are given", "one of them")


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Options)}


def make_options(given: Mapping[str, Any], **defaults: Any) -> Options:
    """Options by name.

    Raises:
      UsageError: a name that is none, or what `Options` raises.
    """
    for name in given:
        if name not in _DEFAULTS:
            near = difflib.get_close_matches(name, _DEFAULTS, n=1)
            raise UsageError(
                f"no option {name!r}", "a field of Options",
                f"did you mean {near[0]}?" if near else "",
            )  # fmt: skip
    return Options(**{**defaults, **given})


def _token_id(tokenizer: Tokenizer, token: Token) -> int:
    if not isinstance(token, str):
        return int(token)
    if token in tokenizer:
        return tokenizer.token_to_id(token)
    ids = tokenizer.encode(token)
    if len(ids) != 1:
        raise UsageError(
            f"logit_bias names {token!r}, which is {len(ids)} tokens", "one token",
            f"give its ids, {', '.join(map(str, ids))}" if ids else "",
        )  # fmt: skip
    return ids[0]
