"""Continued training on texts: every token is learnt, none is left out."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from gemkit.errors import DataError
from gemkit.metrics.scores import Figures
from gemkit.tasks.base import Answer, has_column, keep_usable, split_groups
from gemkit.tasks.files import TEXT_SUFFIXES, is_table, read_files
from gemkit.tasks.generation import Generated, check_prompts
from gemkit.text.tokenizer import Tokenizer
from gemkit.train.data import Table, guess_column, read_table
from gemkit.train.packing import Example

TEXT_COLUMNS = ("text", "content", "document", "body", "article")


@dataclasses.dataclass(frozen=True)
class Text(Generated):
    """Texts to go on learning from; asked, it continues them.

    Learns from text files, or from a column of a table. A text that is longer than the context is
    cut into pieces that fill it, each with `<bos>` before it; only the last one ends in `<eos>`.

    Attributes:
      text: column of a table; None guesses it where only one name fits.
      max_new_tokens: most tokens of a continuation.
    """

    text: str | None = None
    max_new_tokens: int = 128

    name = "text"
    measures = ("loss", "perplexity", "bits_per_byte")

    @property
    def column(self) -> str:
        """One of its own."""
        return "continuation"

    def read(self, path: str | Path, skip_bad_rows: bool = False, labelled: bool = True) -> Table:
        """A text file, all text files in a folder, or the rows of a table."""
        if is_table(Path(path)):
            return read_table(path, skip_bad_rows=skip_bad_rows)
        return read_files(Path(path), TEXT_SUFFIXES, skip_bad_rows)

    def found(self, table: Table, labelled: bool = True) -> "Text":
        """The task with its column found in a table."""
        text = self.text or guess_column(table, TEXT_COLUMNS, "text")
        return dataclasses.replace(self, text=has_column(table, text, "text"))

    def split(self, table: Table, share: float, seed: int) -> tuple[Table, Table]:
        """Whole texts; the end of a text that is the only one."""
        if len(table.rows) > 1 or not 0 < share < 1:
            return split_groups(table, [str(row) for row in range(len(table.rows))], share, seed)
        (text,) = self._texts(table)
        cut = text.rfind("\n", 0, int(len(text) * (1 - share))) + 1
        cut = cut or int(len(text) * (1 - share))
        if not text[:cut].strip() or not text[cut:].strip():
            raise DataError(f"{table.path} is too short to split", "a longer text")
        return self._with_text(table, text[:cut]), self._with_text(table, text[cut:])

    def examples(self, tokenizer: Tokenizer, table: Table, longest: int) -> list[Example]:
        """Each text in pieces of up to `longest` tokens."""
        examples = []
        size = max(longest - 1, 1)
        for text in self._texts(table):
            ids = tokenizer.encode(text, eos=True)
            for start in range(0, len(ids), size):
                piece = ids[start : start + size]
                examples.append(Example([tokenizer.bos_id, *piece], [False] + [True] * len(piece)))
        return examples

    def prompts(self, tokenizer: Tokenizer, table: Table, longest: int) -> list[list[int]]:
        """The texts."""
        prompts = [tokenizer.encode(text, bos=True) for text in self._texts(table)]
        return check_prompts(table, prompts, longest)

    def without_bad_rows(
        self, tokenizer: Tokenizer, table: Table, longest: int, labelled: bool
    ) -> Table:
        """A text to learn from may be of any length; see `Task`."""
        if not labelled:
            return super().without_bad_rows(tokenizer, table, longest, labelled)
        return keep_usable(table, self._texts)

    def shown(self, table: Table) -> list[tuple[str, str]]:
        """The text; what follows it nobody knows."""
        return [(text, "") for text in self._texts(table)]

    def score(self, answers: Sequence[Answer], table: Table) -> Figures:
        """Nothing: all measures are of the loss."""
        return Figures({})

    def _texts(self, table: Table) -> list[str]:
        assert self.text is not None
        texts = table.texts(self.text)
        for row, text in enumerate(texts):
            if not text.strip():
                raise DataError(f"{table.where(row)}: the text is empty", "some text")
        return texts

    def _with_text(self, table: Table, text: str) -> Table:
        assert self.text is not None
        return dataclasses.replace(table, rows=[{**table.rows[0], self.text: text}])
