"""Tasks whose answers are generated: a prompt, a reply with its end, nothing cut off unsaid."""

from collections.abc import Callable, Sequence
from typing import Protocol

from gemkit.errors import DataError, UsageError
from gemkit.generate.score import Progress
from gemkit.language_model import LanguageModel
from gemkit.metrics.scores import Figures
from gemkit.metrics.texts import text_figures
from gemkit.tasks.base import Answer, Task, has_column, keep_usable
from gemkit.text.chat import chat_ids
from gemkit.text.templates import CHAT
from gemkit.text.tokenizer import Tokenizer
from gemkit.train.data import Table, guess_column
from gemkit.train.packing import Example

LEAST_SHARE = 16
"""This share of the context at least is left for an answer that may be as long."""


class Generated(Task, Protocol):
    """A task with a prompt and a reply for each row.

    Attributes:
      max_new_tokens: most tokens of an answer.
    """

    max_new_tokens: int

    def prompts(self, tokenizer: Tokenizer, table: Table, longest: int) -> list[list[int]]:
        """Each row's prompt as ids, `<bos>` first.

        Args:
          longest: most tokens of a prompt.

        Raises:
          DataError: a row without one, or with one that is too long.
        """
        ...

    def ends(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Tokens that end an answer beside the ends of text and of a turn."""
        return ()

    def overs(self, table: Table) -> list[Callable[[str], bool]]:
        """For each row whether an answer needs no more text; none where its end alone tells."""
        return []

    def without_bad_rows(
        self, tokenizer: Tokenizer, table: Table, longest: int, labelled: bool
    ) -> Table:
        """The table without rows that cannot be used; see `Task`."""

        def check(one: Table) -> None:
            self.prompts(tokenizer, one, self.room(longest))
            if labelled:
                self.examples(tokenizer, one, longest)

        return keep_usable(table, check)

    def predict(
        self, lm: LanguageModel, table: Table, progress: Progress | None = None
    ) -> list[Answer]:
        """The greedy answer to every row, in order.

        Raises:
          DataError: a row that cannot be asked.
        """
        task = self.found(table, labelled=False)
        prompts = task.prompts(lm.tokenizer, table, task.room(lm.config.max_positions))
        replies = lm.answer_ids(
            prompts, task.ends(lm.tokenizer), progress, task.overs(table),
            max_new_tokens=task.max_new_tokens,
        )  # fmt: skip
        return [Answer(reply.text) for (reply,) in replies]

    def score(self, answers: Sequence[Answer], table: Table) -> Figures:
        """The answers against the true ones."""
        truth = [reference for _, reference in self.shown(table)]
        return text_figures(self.measures, [answer.text for answer in answers], truth)

    def room(self, context: int) -> int:
        """Most tokens of a prompt: what is left has room for an answer of some length."""
        return context - min(self.max_new_tokens, context // LEAST_SHARE)


Wanted = tuple[str, str | None, Sequence[str]]
"""What a column holds, its name if it is given, and the names such columns usually have."""


def two_columns(
    table: Table, asked: Wanted, replied: Wanted, labelled: bool
) -> tuple[str, str | None]:
    """The names of both columns; of the second only what is given, unless rows are labelled.

    Raises:
      DataError: a column is missing, or several may be meant.
      UsageError: both are the same.
    """

    def found(what: str, given: str | None, usual: Sequence[str]) -> str:
        name = given or guess_column(table, usual, what)
        has_column(table, name, what)
        return name

    first = found(*asked)
    second = found(*replied) if labelled else replied[1]
    if first == second:
        raise UsageError(
            f"{table.path}: column {first!r} is both {asked[0]} and {replied[0]}", "two columns",
            f"name them with --{asked[0]} and --{replied[0]}",
        )  # fmt: skip
    return first, second


def learn_replies(
    table: Table, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], longest: int
) -> list[Example]:
    """Each row's prompt and reply, with the reply as the target.

    Raises:
      DataError: a row that is longer than `longest` tokens.
    """
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        check_length(table, row, len(prompt) + len(reply), longest, "prompt and answer are")
    return [
        Example([*prompt, *reply], [False] * len(prompt) + [True] * len(reply))
        for prompt, reply in zip(prompts, replies, strict=True)
    ]


def check_prompts(
    table: Table, prompts: Sequence[list[int]], longest: int
) -> list[list[int]]:
    """The prompts, none of them too long.

    Raises:
      DataError: one is, with file and line.
    """
    for row, prompt in enumerate(prompts):
        check_length(table, row, len(prompt), longest, "the prompt is")
    return list(prompts)


def ask(tokenizer: Tokenizer, text: str, turns: bool) -> list[int]:
    """A prompt's ids: as a user's turn with the model's opened after it, or as it is."""
    if turns:
        return chat_ids(tokenizer, [{"role": "user", "content": text}])[0]
    return tokenizer.encode(text, bos=True)


def close(tokenizer: Tokenizer, text: str, turns: bool) -> list[int]:
    """An answer's ids with the token that ends it."""
    end = tokenizer.token_to_id(CHAT.end) if turns else tokenizer.eos_id
    return [*tokenizer.encode(text), end]


def stripped(table: Table, column: str, what: str) -> list[str]:
    """A column's texts, trimmed.

    Raises:
      DataError: an empty one, with file and line.
    """
    texts = [text.strip() for text in table.texts(column)]
    for row, text in enumerate(texts):
        if not text:
            raise DataError(f"{table.where(row)}: the {what} is empty", "some text")
    return texts


def check_length(table: Table, row: int, length: int, longest: int, what: str) -> None:
    """Refuses a row that is too long: nothing is cut off unsaid.

    Raises:
      DataError: with file and line.
    """
    if length > longest:
        raise DataError(
            f"{table.where(row)}: {what} {length} tokens long", f"at most {longest}",
            "shorten or remove it, or pass --skip-bad-rows",
        )  # fmt: skip
