"""`gemkit.doctor`: model + task + files → findings. Nothing is trained, no weights are needed."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from gemkit.checkpoint.hub.handles import locate
from gemkit.checkpoint.load import opened
from gemkit.diagnosis.checks import CHECKS
from gemkit.diagnosis.material import Case, Finding, Material
from gemkit.diagnosis.turns import knows_turns
from gemkit.errors import DataError, TokenizerError, UsageError
from gemkit.language_model import LanguageModel
from gemkit.tasks import Classify, Task
from gemkit.tasks.complete import GAP_COLUMNS
from gemkit.tasks.files import COLUMNS, is_table
from gemkit.text.tokenizer import Tokenizer
from gemkit.train.data import Table
from gemkit.train.loop import FitSettings
from gemkit.train.packing import Example

ANY_LENGTH = 1 << 30


@dataclasses.dataclass(frozen=True)
class Outline:
    """What the doctor asks of a model.

    Attributes:
      tokenizer: its vocabulary.
      context: the most tokens it takes.
      knows_turns: whether it was trained on chat turns; None where nothing tells.
    """

    tokenizer: Tokenizer
    context: int
    knows_turns: bool | None


def doctor(
    lm: LanguageModel, task: Task, data: str | Path, valid: str | Path | None = None, *,
    max_length: int | None = None, batch_tokens: int = FitSettings.batch_tokens,
) -> list[Finding]:  # fmt: skip
    """Looks for what is wrong with data or recipe before a long run.

    Args:
      lm: the model to be tuned.
      task: what it is to learn, such as `gemkit.tasks.Classify(text="comment", label="label")`.
      data, valid: files, as `gemkit.tune` takes them.
      max_length, batch_tokens: as `gemkit.tune` takes them.

    Returns:
      A finding of each check in `diagnosis.checks.CHECKS`, in that order; `severity` is "ok",
      "warning" or "error".

    Raises:
      DataError: a file that cannot be read at all. UsageError: columns that cannot be guessed.
    """
    outline = Outline(lm.tokenizer, lm.config.max_positions, knows_turns(lm.name))
    return examine(outline, task, data, valid, max_length=max_length, batch_tokens=batch_tokens)


def examine(
    model: Outline, task: Task, data: str | Path, valid: str | Path | None = None, *,
    max_length: int | None = None, batch_tokens: int = FitSettings.batch_tokens,
) -> list[Finding]:  # fmt: skip
    """`doctor` for a model of which no weights are read; see there."""
    if max_length is not None and max_length < 1:
        raise UsageError(f"max_length is {max_length}", "at least 1")
    most = min(max_length or model.context, model.context)
    bad: list[tuple[str, str]] = []
    table = _usable(model.tokenizer, task, data, bad)
    task = task.fitted(table)
    train = _cases(model.tokenizer, task, table, most)
    held: list[Case] = []
    if valid is not None:
        held = _cases(model.tokenizer, task, _usable(model.tokenizer, task, valid, bad), most)
    material = Material(model.tokenizer, most, batch_tokens, model.knows_turns, train, held, bad)
    return [dataclasses.replace(check(material), check=name) for name, check in CHECKS.items()]


def outline(model: str | Path) -> Outline:
    """What the doctor asks of a MODEL, without its weights.

    Raises:
      ModelNotFoundError, CheckpointError, ConfigError: as `gemkit.load`.
      TokenizerError: it has no vocabulary.
    """
    path = locate(model)
    if (path / "run.json").is_file() and not (path / "model").is_dir():
        raise UsageError(
            f"{path} already carries an adapter", "a model without one",
            "save it merged first (gemkit merge), or name its base",
        )  # fmt: skip
    with opened(path / "model" if (path / "model").is_dir() else path) as (_, source):
        if source.tokenizer is None:
            raise TokenizerError(f"{model} has no tokenizer", "a tokenizer.model beside it")
        return Outline(source.tokenizer(), source.config.max_positions, knows_turns(str(model)))


def _usable(
    tokenizer: Tokenizer, task: Task, path: str | Path, bad: list[tuple[str, str]]
) -> Table:
    """The rows a run could learn from; adds (where, why) of the others to `bad`."""
    table = task.read(path, skip_bad_rows=True)
    task = task.found(table)
    table = task.without_bad_rows(tokenizer, table, ANY_LENGTH, labelled=True)
    for row in table.skipped:
        where, _, why = row.reason.rpartition(f" line {row.line}: ")
        bad.append((f"{where or table.path}:{row.line}", why))
    return table


def _cases(tokenizer: Tokenizer, task: Task, table: Table, most: int) -> list[Case]:
    """The examples with their rows; those too long for the context are there too."""
    has_labels = isinstance(task, Classify)
    rows = zip(_examples(tokenizer, task, table, most), task.shown(table), strict=True)
    return [
        Case(
            example, _place(table, row), _typed(table.rows[row]),
            f"{asked} → {truth}" if truth else asked, truth if has_labels else None,
        )
        for row, (examples, (asked, truth)) in enumerate(rows)
        for example in examples
    ]  # fmt: skip


def _examples(tokenizer: Tokenizer, task: Task, table: Table, most: int) -> list[list[Example]]:
    """The examples of each row: none longer than `most`, except what the task would refuse."""
    with contextlib.suppress(DataError):
        examples = task.examples(tokenizer, table, most)
        if len(examples) == len(table.rows):
            return [[example] for example in examples]
    found = []
    for row in range(len(table.rows)):
        part = table.part([row])
        try:
            found.append(task.examples(tokenizer, part, most))
        except DataError:  # too long, which another check counts
            found.append(task.examples(tokenizer, part, ANY_LENGTH))
    return found


def _place(table: Table, row: int) -> str:
    """`train.tsv:12`; of a gap in a source file, the line where it begins."""
    values, file = table.rows[row], table.path
    if table.columns not in (COLUMNS, GAP_COLUMNS) or is_table(file):
        return f"{file}:{table.lines[row]}"
    file = file / values["path"] if file.is_dir() else file
    prefix = values.get("prefix")
    return str(file) if prefix is None else f"{file}:{prefix.count(chr(10)) + 1}"


def _typed(value: Any) -> str:
    """All text in a row, lists and objects in it included.

    >>> _typed({"id": 7, "messages": [{"role": "user", "content": "Hi"}]})
    '7 | user | Hi'
    """
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return " | ".join(filter(None, map(_typed, value)))
    return "" if value is None else str(value)
