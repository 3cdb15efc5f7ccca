"""Translation: a source and a target text a row, such as those of MTNT."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from gemkit.errors import UsageError
from gemkit.metrics.scores import Figures
from gemkit.metrics.texts import text_figures
from gemkit.tasks.base import Answer
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

SOURCE_COLUMNS = ("source", "src", "source_text", "en", "english")
TARGET_COLUMNS = ("target", "dst", "tgt", "trg", "translation", "target_text", "fr", "french")
WITHOUT_HEADER = ("id", "src", "dst")
"""Columns of MTNT's files, which have no header line."""
# Template → whether it is a turn of a chat.
FORMS: Mapping[str, bool] = MappingProxyType({"translate": False, "chat": True})


@dataclasses.dataclass(frozen=True)
class Translate(Generated):
    """A translation of each text.

    Attributes:
      source: column with the text; None guesses it where only one name fits.
      target: column with the translation; likewise.
      language: of the translation, in English.
      template: "translate" for a base model, "chat" for one that was tuned to chat.
      max_new_tokens: most tokens of an answer.
    """

    source: str | None = None
    target: str | None = None
    language: str = "French"
    template: str = "translate"
    max_new_tokens: int = 256

    name = "translate"
    measures = ("loss", "perplexity", "bleu", "chrf")

    def __post_init__(self) -> None:
        if self.template not in FORMS:
            raise UsageError(f"template is {self.template!r}", f"one of {', '.join(FORMS)}")

    @property
    def column(self) -> str:
        """The target's."""
        return self.target or TARGET_COLUMNS[0]

    def read(self, path: str | Path, skip_bad_rows: bool = False, labelled: bool = True) -> Table:
        """The rows of a table file; one without a header line is taken as id, source, target."""
        return read_table(path, skip_bad_rows=skip_bad_rows, header=_header(Path(path)))

    def found(self, table: Table, labelled: bool = True) -> "Translate":
        """The task with its columns found in a file."""
        source, target = two_columns(
            table, ("source", self.source, SOURCE_COLUMNS), ("target", self.target, TARGET_COLUMNS),
            labelled,
        )  # fmt: skip
        return dataclasses.replace(self, source=source, target=target)

    def prompts(self, tokenizer: Tokenizer, table: Table, longest: int) -> list[list[int]]:
        """Each row's source after what is to be done with it."""
        assert self.source is not None
        prompts = [
            ask(
                tokenizer,
                TEMPLATES["translate"].render(source=text, language=self.language),
                FORMS[self.template],
            )
            for text in stripped(table, self.source, "source")
        ]
        return check_prompts(table, prompts, longest)

    def replies(self, tokenizer: Tokenizer, table: Table) -> list[list[int]]:
        """Each row's target."""
        assert self.target is not None
        texts = stripped(table, self.target, "target")
        return [close(tokenizer, text, FORMS[self.template]) for text in texts]

    def examples(self, tokenizer: Tokenizer, table: Table, longest: int) -> list[Example]:
        """Prompt and answer, with the answer and its end as the target."""
        prompts = self.prompts(tokenizer, table, longest)
        return learn_replies(table, prompts, self.replies(tokenizer, table), longest)

    def shown(self, table: Table) -> list[tuple[str, str]]:
        """Source and target."""
        assert self.source is not None and self.target is not None
        return list(zip(table.texts(self.source), table.texts(self.target), strict=True))

    def score(self, answers: Sequence[Answer], table: Table) -> Figures:
        """BLEU and chrF."""
        truth = [target for _, target in self.shown(table)]
        return text_figures(self.measures, [a.text for a in answers], truth, self.language)


def _header(path: Path) -> tuple[str, ...]:
    """Names for the columns of a TSV that begins like MTNT's: with a number, three fields or more.

    Of any other file nothing: its first line is its header.
    """
    if path.suffix.lower() not in (".tsv", ".tab", ".txt") or not path.is_file():
        return ()
    with path.open("rb") as file:
        fields = file.readline().decode("utf-8-sig", "replace").split("\t")
    if len(fields) < len(WITHOUT_HEADER) or not fields[0].strip('"').isdecimal():
        return ()
    more = (f"column{number}" for number in range(len(WITHOUT_HEADER) + 1, len(fields) + 1))
    return (*WITHOUT_HEADER, *more)
