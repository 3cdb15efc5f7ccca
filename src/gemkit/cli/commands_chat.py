"""`gemkit chat`: turns at the terminal."""

import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gemkit.cli.commands_text import visible
from gemkit.cli.options import (
    CACHE_DTYPE,
    DTYPE,
    LIMITS,
    MODEL,
    SAMPLING,
    STOP,
    Command,
    present,
    remark,
)  # fmt: skip
from gemkit.errors import DataError, GemkitError, UsageError

if TYPE_CHECKING:
    from gemkit.language_model import LanguageModel

HINT = "/help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves"
ANSWER_SHARE = 4
"""A quarter of the context is kept for the answer."""

Messages = list[dict[str, Any]]


@click.command(cls=Command)
@MODEL
@click.option("--system", metavar="TEXT", help="What the model is told before your first words.")
@LIMITS
@SAMPLING
@STOP
@DTYPE
@CACHE_DTYPE
def chat(
    model: str, system: str | None, dtype: str | None, cache_dtype: str | None, **settings: Any
) -> None:
    """Talk with a model, turn by turn.

    Turns that no longer fit into the context are forgotten, the oldest first; the --system text
    stays.
    """
    from gemkit.loading import load

    lm = load(model, **present(dtype=dtype, cache_dtype=cache_dtype))
    conversation = Conversation(lm, system, present(**settings))
    # A vocabulary without turns is an error now, not after the first question.
    conversation.check([{"role": "user", "content": ""}])
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  input() then edits lines and knows earlier ones
    remark(HINT)
    converse(conversation, _ask)


def _ask() -> str:
    if sys.stdin.isatty():
        return input("> ")
    # Bytes, so that a line that is no text does not spoil those after it.
    line = sys.stdin.buffer.readline()
    if not line:
        raise EOFError
    return line.decode("utf-8")


def converse(conversation: "Conversation", ask: Callable[[], str]) -> None:
    """Asks and answers until the input ends."""
    while True:
        try:
            said = ask().strip()
            if said == "/quit":
                return
            if said.startswith("/"):
                obey(conversation, said)
            elif said:
                conversation.answer(said)
        except EOFError:
            if sys.stdin.isatty():
                print()
            return
        except KeyboardInterrupt:
            remark(f"\n{HINT}")
        except UnicodeDecodeError:
            remark("gemkit: this line is not UTF-8; expected text in UTF-8")
        except GemkitError as error:
            remark(f"gemkit: {error}")


def obey(conversation: "Conversation", said: str) -> None:
    """Does what a line that begins with a slash says."""
    name, _, argument = said.partition(" ")
    if name not in COMMANDS:
        raise UsageError(f"no command {name}", "one that /help lists")
    wants, _, act = COMMANDS[name]
    argument = argument.strip()
    if bool(wants) != bool(argument):
        raise UsageError(f"{said}", f"{name} {wants}".rstrip())
    act(conversation, argument)


class Conversation:
    """Turns so far.

    Attributes:
      messages: system text if there is one, then user and assistant in turn.
    """

    def __init__(
        self, lm: "LanguageModel", system: str | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self._system = [{"role": "system", "content": system}] if system else []
        self.messages: Messages = list(self._system)
        self._lm, self._settings = lm, settings or {}

    def answer(self, question: str) -> None:
        """Prints the answer as it comes; Ctrl-C ends it and keeps what there is."""
        before = self.messages
        self.messages = self._trimmed([*before, {"role": "user", "content": question}])
        said = ""
        try:
            for piece in self._lm.stream_chat(self.messages, **self._settings):
                said += piece
                print(visible(piece), end="", flush=True)
            print()
        except KeyboardInterrupt:
            remark(" (stopped)")
        finally:
            if said.strip():
                self.messages = [*self.messages, {"role": "assistant", "content": said}]
            else:
                self.messages = before

    def reset(self) -> None:
        """Forgets what was said; the system text stays."""
        self.messages = list(self._system)
        remark("the conversation is forgotten")

    def save(self, path: Path) -> None:
        """Writes the messages as JSON, in one step, over an earlier conversation or nothing."""
        from gemkit.atomic import write_bytes

        if self.messages == self._system:
            raise UsageError("nothing was said yet", "a conversation to save")
        if path.is_file():
            self._read(path)  # raises for a file that is something else
        content = json.dumps(self.messages, ensure_ascii=False, indent=2) + "\n"
        write_bytes(path, content.encode(), DataError)
        remark(f"{_turns(self.messages)} saved in {path}")

    def load(self, path: Path) -> None:
        """Goes on from a saved conversation, its system text included."""
        self.messages = self._read(path)
        remark(f"{_turns(self.messages)} loaded from {path}")

    def check(self, messages: Messages, finished: bool = False) -> None:
        """Raises a UsageError for what makes no conversation."""
        from gemkit.text.chat import chat_ids

        chat_ids(self._lm.tokenizer, messages, add_generation_prompt=not finished)

    def _read(self, path: Path) -> Messages:
        from gemkit.text.source_file import read_source

        text = read_source(path).text
        try:
            messages = json.loads(text)
        except ValueError:
            raise DataError(f"{path} is not JSON", "a conversation that /save wrote") from None
        try:
            self.check(messages if isinstance(messages, list) else [messages], finished=True)
        except UsageError as error:
            raise DataError(f"{path}: {error.what}", error.expected) from None
        if messages[-1]["role"] == "user":
            raise DataError(f"{path} ends with a question", "an answer last")
        return list(messages)

    def _trimmed(self, messages: Messages) -> Messages:
        from gemkit.text.history import recent_turns

        context = self._lm.config.max_positions
        kept = recent_turns(self._lm.tokenizer, messages, context - context // ANSWER_SHARE)
        if forgotten := len(messages) - len(kept):
            remark(f"({_turns(messages[:forgotten])} forgotten: beyond the context)")
        return [dict(message) for message in kept]


def _turns(messages: Messages) -> str:
    count = sum(message["role"] == "user" for message in messages)
    return f"{count} turn{'' if count == 1 else 's'}"


def _path(given: str) -> Path:
    if "\0" in given:
        raise UsageError(f"the file is {given!r}", "a name")
    return Path(os.path.expanduser(given))


def _list(conversation: Conversation, _: str) -> None:
    for name, (wants, does, _act) in COMMANDS.items():
        remark(f"{f'{name} {wants}'.rstrip():<12} {does}")
    remark(HINT.partition(", ")[2])


Act = Callable[[Conversation, str], None]
COMMANDS: dict[str, tuple[str, str, Act]] = {
    "/reset": ("", "forgets the conversation", lambda talk, _: talk.reset()),
    "/save": ("FILE", "writes it as JSON", lambda talk, file: talk.save(_path(file))),
    "/load": ("FILE", "goes on from a file", lambda talk, file: talk.load(_path(file))),
    "/help": ("", "lists the commands", _list),
    "/quit": ("", "leaves", lambda *_: None),
}
"""Name → what it wants after it, what it does, and how; /quit is left to who asks."""
