"""`gemkit chat`: turns at the terminal."""

import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from gemkit.cli.commands_text import visible
from gemkit.cli.options import DTYPE, LIMITS, MODEL, SAMPLING, STOP, Command, present, remark
from gemkit.errors import GemkitError

if TYPE_CHECKING:
    from gemkit.language_model import LanguageModel

HELP = "/reset forgets the conversation, /quit or Ctrl-D leaves, Ctrl-C stops an answer"
ANSWER_SHARE = 4
"""A quarter of the context is kept for the answer."""

Messages = list[dict[str, str]]


@click.command(cls=Command)
@MODEL
@LIMITS
@SAMPLING
@STOP
@DTYPE
def chat(model: str, dtype: str | None, **settings: Any) -> None:
    """Talk with a model, turn by turn."""
    from gemkit.loading import load
    from gemkit.text.chat import chat_ids

    lm = load(model, **present(dtype=dtype))
    # A vocabulary without turns is an error now, not after the first question.
    chat_ids(lm.tokenizer, [{"role": "user", "content": ""}])
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  input() then edits lines and knows earlier ones
    remark(HELP)
    converse(Conversation(lm, present(**settings)), _ask)


def _ask() -> str:
    return input("> " if sys.stdin.isatty() else "")


def converse(conversation: "Conversation", ask: Callable[[], str]) -> None:
    """Asks and answers until the input ends."""
    while True:
        try:
            question = ask().strip()
        except EOFError:
            if sys.stdin.isatty():
                print()
            return
        except KeyboardInterrupt:
            remark(f"\n{HELP}")
            continue
        if question == "/quit":
            return
        if question == "/reset":
            conversation.messages.clear()
            remark("the conversation is forgotten")
        elif question.startswith("/"):
            remark(f"no command {question.split()[0]}; {HELP}")
        elif question:
            conversation.answer(question)


class Conversation:
    """Turns so far.

    Attributes:
      messages: user and assistant in turn.
    """

    def __init__(self, lm: "LanguageModel", settings: dict[str, Any]) -> None:
        self.messages: Messages = []
        self._lm, self._settings = lm, settings

    def answer(self, question: str) -> None:
        """Prints the answer as it comes; Ctrl-C ends it and keeps what there is."""
        self.messages.append({"role": "user", "content": question})
        try:
            if forgotten := self._trim():
                turns = "1 turn is" if forgotten == 1 else f"{forgotten} turns are"
                remark(f"({turns} beyond the context and forgotten)")
            said = self._say()
        except GemkitError as error:
            remark(f"gemkit: {error}")
            said = ""
        if said:
            self.messages.append({"role": "assistant", "content": said})
        else:
            self.messages.pop()

    def _say(self) -> str:
        said = ""
        try:
            for piece in self._lm.stream_chat(self.messages, **self._settings):
                said += piece
                print(visible(piece), end="", flush=True)
        except KeyboardInterrupt:
            remark(" (stopped)")
        else:
            print()
        return said

    def _trim(self) -> int:
        """Drops the oldest turns, question with answer, that leave no room for an answer."""
        from gemkit.text.chat import chat_ids

        context = self._lm.config.max_positions
        room = context - context // ANSWER_SHARE
        dropped = 0
        while len(self.messages) > 1:
            if len(chat_ids(self._lm.tokenizer, self.messages)[0]) <= room:
                break
            del self.messages[:2]
            dropped += 1
        return dropped
