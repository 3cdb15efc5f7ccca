"""Answers of a given form: one of a list, a regular expression, JSON of a schema.

A grammar (llguidance does the work) says after each token which tokens keep the answer's bytes a
start of something it matches; the end of the answer is allowed only when it matches as a whole.
"""

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gemkit.errors import GenerationError, UsageError
from gemkit.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher

# As Python's json.dumps writes; free whitespace would let an answer go on with it for ever.
JSON_STYLE = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}

# What llguidance puts before its reason.
_PLACE = re.compile(r"^(at )?\d+\(\d+\): (invalid regex .*? \(in regex\): )?")


class Constraint:
    """Which tokens may follow in one answer. Made by `Constraints`.

    >>> constraint.allowed()[[yes, no, eos]], constraint.finished     # doctest: +SKIP
    (array([ True,  True, False]), False)
    >>> constraint.accept(yes)                                        # doctest: +SKIP
    >>> constraint.allowed()[[yes, no, eos]], constraint.finished     # doctest: +SKIP
    (array([False, False,  True]), True)
    """

    def __init__(self, matcher: "LLMatcher", ends: frozenset[int], size: int) -> None:
        self._matcher, self._ends, self._size = matcher, ends, size
        self._taken: list[int] = []
        self._ended = False

    @property
    def complete(self) -> bool:
        """Whether the answer matches as it is; more may be allowed."""
        return self._matcher.is_accepting()

    @property
    def finished(self) -> bool:
        """Whether nothing but the end may follow, or it has come."""
        return self._ended or (self._matcher.is_stopped() and self.complete)

    def allowed(self) -> np.ndarray:
        """The tokens that may follow, bool [V]; none after the end.

        Where it is certain which bytes follow, only the tokenizer's own spelling of them.

        Raises:
          GenerationError: the grammar has become too complex to follow.
        """
        mask = np.zeros(self._size, bool)
        if self._ended:
            return mask
        packed = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            raise GenerationError(
                f"the constraint cannot be followed: {_reason(self._matcher.get_error())}",
                "a simpler one",
            )  # fmt: skip
        bits = np.unpackbits(packed, bitorder="little")[: self._size].view(bool)
        mask[: len(bits)] = bits
        return mask

    def accept(self, token: int) -> None:
        """Takes the answer's next token, in whichever spelling.

        Raises:
          GenerationError: its bytes do not fit, or the end comes too early or twice.
        """
        token = int(token)
        end = token in self._ends
        if self._ended or not (self.complete if end else self._matcher.validate_tokens([token])):
            raise GenerationError(
                f"token {token} does not fit the constraint after {len(self._taken)} tokens",
                "a token that goes on towards a match",
            )  # fmt: skip
        if not end:
            self._matcher.consume_token(token)
        self._ended = end
        self._taken.append(token)

    def after(self, answer: Sequence[int]) -> np.ndarray:
        """`allowed` after these tokens, whatever was accepted before; quick where they go on."""
        known = len(self._taken)
        if list(answer[:known]) != self._taken:
            self._matcher.reset()
            self._taken, self._ended, known = [], False, 0
        for token in answer[known:]:
            self.accept(token)
        return self.allowed()

    def copy(self) -> "Constraint":
        """One that goes its own way from here on, for a further answer."""
        other = Constraint(self._matcher.deep_copy(), self._ends, self._size)
        other._taken, other._ended = list(self._taken), self._ended
        return other


class Constraints:
    """Makes constraints for a vocabulary; reading it takes seconds, so keep one per model.

    An answer that reaches its limit of tokens is cut where it stands: nothing tells a grammar to
    hurry, so give enough room, or a pattern that is bounded ("[a-z]{1,20}", "maxItems").
    """

    def __init__(
        self, tokenizer: Tokenizer, end_ids: Sequence[int] | None = None, size: int | None = None
    ) -> None:
        """Args:
        end_ids: tokens that end an answer; by default the ends of text and of a turn.
        size: V of the masks, where the model has more tokens than the vocabulary.
        """
        ends = (tokenizer.eos_id, tokenizer.end_of_turn_id) if end_ids is None else end_ids
        self._ends = tuple(sorted({end for end in ends if end is not None}))
        self._size = tokenizer.vocab_size if size is None else size
        self._tokenizer = tokenizer

    def choices(self, texts: Sequence[str]) -> Constraint:
        """Exactly one of these strings.

        Raises:
          UsageError: there is none, or one is empty or no text.
        """
        if isinstance(texts, str) or not texts or not all(isinstance(t, str) and t for t in texts):
            raise UsageError(f"the choices are {texts!r}", "a list of strings, none empty")
        for text in texts:
            self._tokenizer.encode(text)  # for its error: half a surrogate pair
        return self._constraint(
            "choices", lambda lib: lib.grammar_from("choice", list(dict.fromkeys(texts)))
        )

    def regex(self, pattern: str) -> Constraint:
        """Text that the whole pattern matches, in the syntax of Rust's regex crate.

        That has no look-around, word boundaries or backreferences; "." matches no line feed.

        Raises:
          UsageError: the pattern is invalid or matches nothing.
        """
        what = f"the regular expression {pattern!r}"
        return self._constraint(what, lambda lib: lib.grammar_from("regex", pattern))

    def json_schema(self, schema: Mapping[str, Any] | str) -> Constraint:
        """JSON of a schema, spaced as `json.dumps` does; keys in the order of the schema.

        Args:
          schema: an object, or its text. A keyword that llguidance does not know is an error,
            since the answer might break it.

        Raises:
          UsageError: the schema is invalid, unsupported or can have no instance.
        """
        try:
            parsed = json.loads(schema) if isinstance(schema, str) else schema
            text = json.dumps(parsed)
        except (TypeError, ValueError) as error:
            raise UsageError(f"the JSON schema is invalid: {error}", "JSON") from None
        if not isinstance(parsed, Mapping):
            raise UsageError(f"the JSON schema is {text[:40]}", 'an object such as {"type": …}')
        return self._constraint(
            "the JSON schema",
            lambda lib: lib.LLMatcher.grammar_from_json_schema(text, overrides=JSON_STYLE),
        )

    def _constraint(self, what: str, grammar: Callable[[Any], str]) -> Constraint:
        import llguidance

        limits = llguidance.LLParserLimits(verbose_errors=False)
        try:
            matcher = llguidance.LLMatcher(
                self._vocabulary, grammar(llguidance), log_level=0, limits=limits
            )
        except ValueError as error:
            raise UsageError(f"{what}: {_reason(str(error))}", "a valid one") from None
        if matcher.is_error():
            raise UsageError(f"{what}: {_reason(matcher.get_error())}", "a valid one")
        constraint = Constraint(matcher, frozenset(self._ends), self._size)
        matcher.compute_bitmask()
        if matcher.is_error() or (matcher.is_stopped() and not constraint.complete):
            raise UsageError(f"nothing matches {what}", "one that some text matches")
        return constraint

    @functools.cached_property
    def _vocabulary(self) -> Any:
        import llguidance

        wrapper = llguidance.TokenizerWrapper(_Pieces(self._tokenizer))
        return llguidance.LLTokenizer(wrapper, eos_token=list(self._ends))


class _Pieces:
    """The tokenizer in the words of llguidance."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.eos_token_id, self.bos_token_id = tokenizer.eos_id, tokenizer.bos_id
        self.special_token_ids = sorted(tokenizer.special_ids)
        self.tokens = [
            tokenizer.token_bytes(token, skip_special=False)
            for token in range(tokenizer.vocab_size)
        ]
        self._encode = tokenizer.encode

    def __call__(self, text: str) -> list[int]:
        return self._encode(text)


def _reason(message: str) -> str:
    """The one line of llguidance's message that says why.

    >>> _reason("at 1(8): regex parse error:\\n    [a\\n    ^\\nerror: unclosed character class")
    'unclosed character class'
    """
    found = re.search(r"^error: (.*)$", message, re.MULTILINE)
    if found:
        return found.group(1)
    return _PLACE.sub("", message.strip().splitlines()[0] if message.strip() else "unknown")
