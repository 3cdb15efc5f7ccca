"""Instructions with their responses, such as the rows of Dolly-15k."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from gemkit.errors import DataError, UsageError
from gemkit.tasks.base import has_column
from gemkit.tasks.generation import (
    Generated,
    ask,
    check_prompts,
    close,
    learn_replies,
    stripped,
    two_columns,
)
from gemkit.text.templates import TEMPLATES
from gemkit.text.tokenizer import Tokenizer
from gemkit.train.data import Table, read_table
from gemkit.train.packing import Example

PROMPT_COLUMNS = ("instruction", "prompt", "question", "query")
RESPONSE_COLUMNS = ("response", "output", "answer", "completion", "reply")
CONTEXT_COLUMNS = ("context", "input", "passage")
KEEP, DROP = "keep", "drop"


@dataclasses.dataclass(frozen=True)
class Form:
    """How a prompt is written.

    Attributes:
      plain, context: names in `TEMPLATES`, for rows without and with context.
      turns: it is a turn of a chat.
    """

    plain: str
    context: str
    turns: bool = False


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "instruct": Form("instruct", "instruct_context"),
        "chat": Form("question", "question_context", turns=True),
    }
)


@dataclasses.dataclass(frozen=True)
class Instruct(Generated):
    """A response to each instruction, which may come with a text it is about.

    Attributes:
      prompt: column with the instruction; None guesses it where only one name fits.
      response: column with the response; likewise.
      context: column with what the instruction is about; None takes one of a usual name if there
        is one.
      context_rows: "keep" rows with context, or "drop" them from training and evaluation, as the
        Dolly tutorial does.
      template: "instruct" for a base model, "chat" for one that was tuned to chat.
      max_new_tokens: most tokens of an answer.
    """

    prompt: str | None = None
    response: str | None = None
    context: str | None = None
    context_rows: str = KEEP
    template: str = "instruct"
    max_new_tokens: int = 256

    name = "instruct"
    measures = ("loss", "perplexity", "chrf", "exact_match")

    def __post_init__(self) -> None:
        if self.template not in FORMS:
            raise UsageError(f"template is {self.template!r}", f"one of {', '.join(FORMS)}")
        if self.context_rows not in (KEEP, DROP):
            raise UsageError(f"context_rows is {self.context_rows!r}", f"{KEEP} or {DROP}")

    @property
    def column(self) -> str:
        """The response's."""
        return self.response or RESPONSE_COLUMNS[0]

    def read(self, path: str | Path, skip_bad_rows: bool = False, labelled: bool = True) -> Table:
        """The rows of a table file; without those that have context, where asked for.

        Raises:
          DataError: no row is left.
        """
        table = read_table(path, skip_bad_rows=skip_bad_rows)
        if self.context_rows == KEEP or not labelled:
            return table
        contexts = self._with_context(table)._contexts(table)
        kept = [row for row, context in enumerate(contexts) if not context]
        if not kept:
            raise DataError(
                f"{table.path}: all {len(contexts)} rows have context", "rows without",
                "pass --context-rows keep",
            )  # fmt: skip
        return table.part(kept)

    def found(self, table: Table, labelled: bool = True) -> "Instruct":
        """The task with its columns found in a file."""
        prompt, response = two_columns(
            table, ("prompt", self.prompt, PROMPT_COLUMNS),
            ("response", self.response, RESPONSE_COLUMNS), labelled,
        )  # fmt: skip
        return dataclasses.replace(self._with_context(table), prompt=prompt, response=response)

    def prompts(self, tokenizer: Tokenizer, table: Table, longest: int) -> list[list[int]]:
        """Each row's instruction, with its context, in the template."""
        assert self.prompt is not None
        form = FORMS[self.template]
        prompts = [
            ask(
                tokenizer,
                TEMPLATES[form.context if context else form.plain].render(
                    instruction=instruction, context=context
                ),
                form.turns,
            )
            for instruction, context in zip(
                stripped(table, self.prompt, "instruction"), self._contexts(table), strict=True
            )
        ]
        return check_prompts(table, prompts, longest)

    def replies(self, tokenizer: Tokenizer, table: Table) -> list[list[int]]:
        """Each row's response."""
        assert self.response is not None
        texts = stripped(table, self.response, "response")
        return [close(tokenizer, text, FORMS[self.template].turns) for text in texts]

    def examples(self, tokenizer: Tokenizer, table: Table, longest: int) -> list[Example]:
        """Prompt and answer, with the answer and its end as the target."""
        prompts = self.prompts(tokenizer, table, longest)
        return learn_replies(table, prompts, self.replies(tokenizer, table), longest)

    def shown(self, table: Table) -> list[tuple[str, str]]:
        """Instruction with its context, and response."""
        assert self.prompt is not None and self.response is not None
        rows = zip(
            table.texts(self.prompt), self._contexts(table), table.texts(self.response),
            strict=True,
        )  # fmt: skip
        return [("\n\n".join(filter(None, (asked, about))), said) for asked, about, said in rows]

    def _with_context(self, table: Table) -> "Instruct":
        if self.context is not None:
            has_column(table, self.context, "context")
            return self
        usual = [name for name in table.columns if name.lower() in CONTEXT_COLUMNS]
        return dataclasses.replace(self, context=usual[0]) if len(usual) == 1 else self

    def _contexts(self, table: Table) -> list[str]:
        if self.context is None:
            return [""] * len(table.rows)
        return [str(row.get(self.context) or "").strip() for row in table.rows]
