"""An answer in words, as it grows and when it is done."""

import dataclasses
from collections.abc import Callable

from gemkit.errors import GenerationError
from gemkit.generate.engine import Engine
from gemkit.generate.request import Request
from gemkit.text.stops import StopText
from gemkit.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes:
      text: the answer, stop string and end left out.
      ids: its tokens; a stop string may end within the last one.
      tokens: the text of each, "\\ufffd" for a part of a character.
      log_probs: their natural log-probabilities under the model, whatever settings drew them.
      ended: "stop" for the end of text or turn or a stop string, "limit".
      prompt_log_probs: those of the prompt from its second token on, if asked for.
    """

    text: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    log_probs: tuple[float, ...]
    ended: str
    prompt_log_probs: tuple[float, ...] = ()


class Writer:
    """Turns one request's tokens into text, and ends it where the text says so."""

    def __init__(
        self, engine: Engine, request: Request, tokenizer: Tokenizer, stops: StopText,
        over: Callable[[str], bool] | None = None,
    ) -> None:  # fmt: skip
        """Hands the request to the engine.

        Args:
          over: whether an answer needs no more text.

        Raises:
          GenerationError, UsageError: see `Engine.add`.
        """
        self._engine, self._tokenizer, self._stops, self._over = engine, tokenizer, stops, over
        self._answer = engine.add(request)
        self._text, self._count, self._enough = "", 0, False

    @property
    def done(self) -> bool:
        """Whether `advance` has given everything."""
        return self._enough

    def advance(self) -> str:
        """The text that has become certain since the last call.

        Raises:
          GemkitError: what the answer failed with, or was given up for.
        """
        if self._answer.error is not None:
            raise self._answer.error
        if self._answer.ended == "cancelled":
            raise GenerationError(
                "the answer was given up", "no interruption of another one", "ask again"
            )
        pieces = []
        for token in self._answer.take():
            if self._stops.stopped:
                break
            pieces.append(self._stops.push(token))
            self._count += 1
        ended = bool(self._answer.ended) or self._stops.stopped
        if ended:
            pieces.append(self._stops.flush())
        new = "".join(pieces)
        self._text += new
        self._enough = ended or (self._over is not None and self._over(self._text))
        if self._enough:
            self.close()
        return new

    def close(self) -> None:
        """Gives up the rest."""
        self._engine.cancel(self._answer)

    def reply(self) -> Reply:
        """The answer so far."""
        ids = self._answer.tokens[: self._count]
        return Reply(
            self._text, tuple(ids), tuple(self._tokenizer.decode([token]) for token in ids),
            tuple(self._answer.log_probs[: self._count]),
            "limit" if self._answer.ended == "limit" and not self._stops.stopped else "stop",
            tuple(self._answer.prompt_log_probs),
        )  # fmt: skip
