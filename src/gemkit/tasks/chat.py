"""Conversations in OpenAI's form: `{"messages": [{"role": "user", "content": …}, …]}` a row."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

from gemkit.errors import DataError, UsageError
from gemkit.tasks.base import has_column
from gemkit.tasks.generation import Generated, check_length, check_prompts
from gemkit.text.chat import Message, chat_ids
from gemkit.text.tokenizer import Tokenizer
from gemkit.train.data import Table, guess_column
from gemkit.train.packing import Example

MESSAGES_COLUMNS = ("messages", "conversation", "conversations", "chat", "dialogue")
OWN_ROLES = ("assistant", "model")


@dataclasses.dataclass(frozen=True)
class Chat(Generated):
    """The assistant's turns of conversations, each with its end of turn; nothing else is learnt.

    Asked for is the last answer: that of a finished conversation again, or the next one.

    Attributes:
      messages: column with the conversation; None guesses it where only one name fits.
      max_new_tokens: most tokens of an answer.
    """

    messages: str | None = None
    max_new_tokens: int = 256

    name = "chat"
    measures = ("loss", "perplexity", "chrf", "exact_match")

    @property
    def column(self) -> str:
        """One of its own: a conversation stays as it was."""
        return "answer"

    def found(self, table: Table, labelled: bool = True) -> "Chat":
        """The task with its column found in a file."""
        messages = self.messages or guess_column(table, MESSAGES_COLUMNS, "messages")
        return dataclasses.replace(self, messages=has_column(table, messages, "messages"))

    def examples(self, tokenizer: Tokenizer, table: Table, longest: int) -> list[Example]:
        """Each conversation up to the assistant's last end of turn; targets are its turns."""
        examples = []
        for row, messages in enumerate(self._conversations(table)):
            with _row_named(table, row):
                ids, learnt = chat_ids(tokenizer, messages, add_generation_prompt=False)
            _check_answered(messages, table, row)
            end = len(learnt) - learnt[::-1].index(True)
            check_length(table, row, end, longest, "the conversation is")
            examples.append(Example(ids[:end], learnt[:end]))
        return examples

    def prompts(self, tokenizer: Tokenizer, table: Table, longest: int) -> list[list[int]]:
        """Each conversation without the assistant's last turn, which is opened."""
        prompts = []
        for row, messages in enumerate(self._conversations(table)):
            with _row_named(table, row):
                asked = messages[:-1] if _is_answered(messages) else messages
                prompts.append(chat_ids(tokenizer, asked)[0])
        return check_prompts(table, prompts, longest)

    def shown(self, table: Table) -> list[tuple[str, str]]:
        """The last question and the assistant's answer.

        Raises:
          DataError: a conversation that does not end with an answer.
        """
        conversations = self._conversations(table)
        for row, messages in enumerate(conversations):
            _check_answered(messages, table, row)
        return [(_text(messages[-2]), _text(messages[-1])) for messages in conversations]

    def _conversations(self, table: Table) -> list[list[Message]]:
        assert self.messages is not None
        return [_messages(row.get(self.messages), table, n) for n, row in enumerate(table.rows)]


def _messages(value: Any, table: Table, row: int) -> list[Message]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DataError(
            f"{table.where(row)}: no list of messages", '[{"role": "user", "content": "…"}, …]'
        )
    return value


def _is_answered(messages: Sequence[Message]) -> bool:
    return len(messages) > 1 and messages[-1].get("role") in OWN_ROLES


def _check_answered(messages: Sequence[Message], table: Table, row: int) -> None:
    if not _is_answered(messages):
        raise DataError(f"{table.where(row)}: the last turn is not an answer", "the assistant's")


def _text(message: Message) -> str:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    return "".join(str(part.get("text") or "").strip() for part in parts)


@contextlib.contextmanager
def _row_named(table: Table, row: int) -> Iterator[None]:
    """Says the row where a conversation is refused."""
    try:
        yield
    except UsageError as error:
        raise DataError(f"{table.where(row)}: {error.what}", error.expected) from None
