"""Fill-in-the-middle: gaps in source files, learnt and completed in CodeGemma's format."""

import dataclasses
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import get_args

from gemkit.errors import DataError, UsageError
from gemkit.generate.score import Progress
from gemkit.language_model import LanguageModel
from gemkit.tasks.base import Answer, has_column, split_groups
from gemkit.tasks.files import MOST_BYTES, SOURCE_SUFFIXES, is_table, read_files
from gemkit.tasks.generation import Generated, learn_replies
from gemkit.tasks.spans import SAMPLERS, sample_spans
from gemkit.text.fim import SEPARATOR, Order, fim_ids, fim_stop_ids
from gemkit.text.middle import Gap, Lines
from gemkit.text.tokenizer import Tokenizer
from gemkit.train.data import Table, guess_column, read_table
from gemkit.train.packing import Example
from gemkit.train.table_files import Row

PREFIX_COLUMNS = ("prefix", "prompt", "before")
MIDDLE_COLUMNS = ("middle", "canonical_solution", "answer")
SUFFIX_COLUMNS = ("suffix", "after")
ALL = "all"
LINES = (*get_args(Lines), ALL)
PYTHON_SUFFIXES = ("", ".py")
GAP_COLUMNS = ("path", "prefix", "middle", "suffix", "kind", "order")
CONTEXT_CHARACTERS = 20_000
"""Of another file, more is not read: most contexts are full by then."""


@dataclasses.dataclass(frozen=True)
class Complete(Generated):
    """The text that fills a gap in a file, given what stands before and after it.

    Learns from source files, which it cuts open at places drawn from `seed` and the file's name,
    or from a table with prefix, middle and suffix. Text far from a gap is left out where the
    context is short; a middle never is. Files are held out whole. Answers are cut as
    `LanguageModel.complete` cuts them, and so are the true middles they are compared with: where
    one line is wanted, its first line is right.

    Attributes:
      prefix, middle, suffix: columns of a table; None guesses them.
      gaps: places in each file.
      spans: kinds of places, in turn; see `tasks.spans`.
      spm_share: share of the gaps that show the suffix first.
      context_files: most other files shown before a file: those it names, then its neighbours.
      seed: of the places.
      max_new_tokens: most tokens of an answer.
      lines: how much of an answer is wanted: "auto", "one" or "many", see `text.middle.Gap`, or
        "all" that the model wrote, as infilling benchmarks have it.
    """

    prefix: str | None = None
    middle: str | None = None
    suffix: str | None = None
    gaps: int = 8
    spans: tuple[str, ...] = tuple(SAMPLERS)
    spm_share: float = 0.5
    context_files: int = 2
    seed: int = 0
    max_new_tokens: int = 128
    lines: str = "auto"

    name = "complete"
    measures = ("loss", "perplexity", "exact_match", "edit_similarity")

    def __post_init__(self) -> None:
        if self.lines not in LINES:
            raise UsageError(f"lines is {self.lines!r}", f"one of {', '.join(LINES)}")
        if self.gaps < 1:
            raise UsageError(f"gaps is {self.gaps}", "at least 1")
        if not 0 <= self.spm_share <= 1:
            raise UsageError(f"spm_share is {self.spm_share}", "a share from 0 to 1")
        if self.context_files < 0:
            raise UsageError(f"context_files is {self.context_files}", "0 or more")
        if unknown := [kind for kind in self.spans if kind not in SAMPLERS]:
            raise UsageError(f"span {unknown[0]!r} is unknown", f"some of {', '.join(SAMPLERS)}")

    @property
    def column(self) -> str:
        """One of its own: the true middle stays."""
        return "completion"

    def read(self, path: str | Path, skip_bad_rows: bool = False, labelled: bool = True) -> Table:
        """The gaps of a file or of all source files in a folder, or the rows of a table."""
        if is_table(Path(path)):
            return read_table(path, skip_bad_rows=skip_bad_rows)
        files = read_files(Path(path), SOURCE_SUFFIXES, skip_bad_rows, MOST_BYTES)
        rows, lines = [], []
        for line, file in zip(files.lines, files.rows, strict=True):
            gaps = list(self._gaps(file["path"], file["text"]))
            rows += gaps
            lines += [line] * len(gaps)
        return dataclasses.replace(files, columns=GAP_COLUMNS, rows=rows, lines=lines)

    def found(self, table: Table, labelled: bool = True) -> "Complete":
        """The task with its columns found in a table."""
        wanted = {"prefix": PREFIX_COLUMNS, "suffix": SUFFIX_COLUMNS}
        if labelled:
            wanted["middle"] = MIDDLE_COLUMNS
        columns = {
            name: has_column(table, getattr(self, name) or guess_column(table, usual, name), name)
            for name, usual in wanted.items()
        }
        return dataclasses.replace(self, **columns)  # type: ignore[arg-type]

    def split(self, table: Table, share: float, seed: int) -> tuple[Table, Table]:
        """Gaps of one file stay together."""
        groups = [str(row.get("path") or f"row {n}") for n, row in enumerate(table.rows)]
        return split_groups(table, groups, share, seed)

    def prompts(self, tokenizer: Tokenizer, table: Table, longest: int) -> list[list[int]]:
        """What is around each gap, as much as fits, after the files it belongs to."""
        return self._surroundings(tokenizer, table, [longest] * len(table.rows))

    def examples(self, tokenizer: Tokenizer, table: Table, longest: int) -> list[Example]:
        """What is around each gap, as much as fits, and its middle with the end as the target."""
        assert self.middle is not None
        end = tokenizer.token_to_id(SEPARATOR)
        replies = [[*tokenizer.encode(text), end] for text in table.texts(self.middle)]
        rooms = []
        for row, reply in enumerate(replies):
            if len(reply) > longest // 2:
                raise DataError(
                    f"{table.where(row)}: the middle is {len(reply)} tokens long",
                    f"at most {longest // 2}, half of the context",
                )  # fmt: skip
            rooms.append(longest - len(reply))
        return learn_replies(table, self._surroundings(tokenizer, table, rooms), replies, longest)

    def ends(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """The markers of the format and the ends of text and turn."""
        return fim_stop_ids(tokenizer)

    def room(self, context: int) -> int:
        """All that the longest answer leaves; a quarter of the context is left for it."""
        return context - min(self.max_new_tokens, context // 4)

    def overs(self, table: Table) -> list[Callable[[str], bool]]:
        """Whether an answer reached the end of what is wanted."""
        return [] if self.lines == ALL else [gap.is_over for gap in self._around(table)]

    def predict(
        self, lm: LanguageModel, table: Table, progress: Progress | None = None
    ) -> list[Answer]:
        """The middle for every gap, as `LanguageModel.complete` gives it."""
        answers = super().predict(lm, table, progress)
        middles = self.found(table, labelled=False)._cut(table, [one.text for one in answers])
        return [Answer(middle) for middle in middles]

    def shown(self, table: Table) -> list[tuple[str, str]]:
        """The code around the gap, and what is wanted of the middle."""
        assert self.middle is not None
        texts = [f"{gap.prefix[-400:]}▮{gap.suffix[:200]}" for gap in self._around(table)]
        return list(zip(texts, self._cut(table, table.texts(self.middle)), strict=True))

    def programs(self, table: Table, answers: Sequence[Answer] | None) -> list[str | None]:
        """Each row's file completed, to be run; None where it is not Python.

        What an infilling benchmark has beside it is put below: the text of the column `test`, and
        a call of its `check` with the column `entry_point`.

        Args:
          answers: None completes with what is wanted of the true middle.
        """
        middles = [text for _, text in self.shown(table)]
        if answers is not None:
            middles = [answer.text for answer in answers]
        programs: list[str | None] = []
        for row, gap, middle in zip(table.rows, self._around(table), middles, strict=True):
            parts = [gap.prefix + middle + gap.suffix, str(row.get("test") or "")]
            if row.get("entry_point"):
                parts.append(f"check({row['entry_point']})")
            known = PurePosixPath(str(row.get("path") or "")).suffix in PYTHON_SUFFIXES
            programs.append("\n".join(parts) if known else None)
        return programs

    def _around(self, table: Table) -> list[Gap]:
        assert self.prefix is not None and self.suffix is not None
        lines: Lines = "auto" if self.lines == ALL else self.lines  # type: ignore[assignment]
        around = zip(table.texts(self.prefix), table.texts(self.suffix), strict=True)
        return [Gap(before, after, lines) for before, after in around]

    def _cut(self, table: Table, middles: Sequence[str]) -> list[str]:
        if self.lines == ALL:
            return list(middles)
        return [gap.cut(text) for gap, text in zip(self._around(table), middles, strict=True)]

    def _gaps(self, path: str, text: str) -> Iterator[Row]:
        draw = random.Random(f"{self.seed} {path}")
        for kind, (start, end) in sample_spans(text, path, self.gaps, self.spans, draw):
            order: Order = "spm" if draw.random() < self.spm_share else "psm"
            parts = (path, text[:start], text[start:end], text[end:], kind, order)
            yield dict(zip(GAP_COLUMNS, parts, strict=True))

    def _surroundings(
        self, tokenizer: Tokenizer, table: Table, rooms: Sequence[int]
    ) -> list[list[int]]:
        assert self.prefix is not None and self.suffix is not None
        before, after = table.texts(self.prefix), table.texts(self.suffix)
        neighbours = _Neighbours(_files(table, before, after, self.middle))
        prompts = []
        for number, row in enumerate(table.rows):
            path = str(row.get("path") or "")
            context = row.get("context") or neighbours.of(path, self.context_files)
            if not isinstance(context, Mapping):
                raise DataError(f"{table.where(number)}: context is no object", "path: text, …")
            order: Order = "spm" if row.get("order") == "spm" else "psm"
            prompts.append(
                fim_ids(
                    tokenizer, before[number], after[number], context, path, order, rooms[number]
                )
            )
        return prompts


class _Neighbours:
    """Which files of a table say most about another of them."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self._words = {path: frozenset(re.findall(r"\w+", text)) for path, text in texts.items()}
        self._found: dict[str, list[str]] = {}

    def of(self, path: str, most: int) -> dict[str, str]:
        """Path → text of up to `most`, the most relevant last: named in the file, then beside it.

        Files of the same folder count only where the path says one.
        """
        if path not in self._texts or most == 0:
            return {}
        if path not in self._found:
            own = PurePosixPath(path)
            ranked = [
                ((PurePosixPath(other).stem in self._words[path]) * 2
                 + (PurePosixPath(other).parent == own.parent), other)
                for other in self._texts if other != path
            ]  # fmt: skip
            self._found[path] = [other for rank, other in sorted(ranked) if rank]
        chosen = self._found[path][-most:]
        return {other: self._texts[other][:CONTEXT_CHARACTERS] for other in chosen}


def _files(
    table: Table, before: Sequence[str], after: Sequence[str], middle: str | None
) -> dict[str, str]:
    """Path → text of the files whose gaps a table holds, as far as it says."""
    if middle is None or middle not in table.columns or "path" not in table.columns:
        return {}
    texts: dict[str, str] = {}
    for number, row in enumerate(table.rows):
        path, inside = row.get("path"), row.get(middle)
        if path and isinstance(inside, str):
            texts.setdefault(str(path), before[number] + inside + after[number])
    return texts
