"""Commands with table files: tune, predict, evaluate."""

import difflib
import shlex
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gemkit.cli.commands import print_table
from gemkit.cli.options import (
    DTYPE,
    JSON,
    LABEL,
    MODEL,
    SKIP,
    TEXT,
    Command,
    as_json,
    options,
    pieces,
    present,
    remark,
)  # fmt: skip
from gemkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from gemkit.train.table_files import BadRow
    from gemkit.tuning import TuneResult

TASKS = ("classify",)
LATER_TASKS = ("instruct", "chat", "translate", "complete", "text")
INTERRUPTED = 130

FILE = click.Path(path_type=Path)

# Figures in the help are those of gemkit.tune; a test compares.
LORA_FLAGS = options(
    click.option("--rank", type=int, metavar="R", help="Of LoRA; default 4."),
    click.option("--alpha", type=float, help="LoRA's scale is alpha / rank; default the rank."),
    click.option("--targets", metavar="q,v", help="Matrices to adapt; default every linear layer."),
    click.option("--dropout", type=float, help="Of the adapter's inputs; default 0."),
    click.option("--full", is_flag=True, default=None, help="Train all weights, not LoRA."),
)
TRAINING_FLAGS = options(
    click.option("--epochs", type=float, help="Passes over the rows; default 6."),
    click.option("--batch-tokens", type=int, help="Token slots of a step; default 512."),
    click.option("--learning-rate", type=float, help="Peak; default 5e-3, with --full 5e-4."),
    click.option("--weight-decay", type=float, help="Decoupled, norms left out; default 0."),
    click.option("--optimizer", help="adamw (default), sgd or adafactor."),
    click.option("--schedule", help="cosine (default), linear or constant."),
    click.option("--warmup", type=float, help="Steps, or share of them below 1; default 0.1."),
    click.option("--clip-norm", type=float, help="Largest gradient norm; default 1."),
    click.option("--seed", type=int, help="Of order, adapter and dropout; default 0."),
    click.option("--max-length", type=int, help="Most tokens of an example; default the context."),
    click.option("--valid-every", type=int, help="Steps between validations; default an epoch."),
    click.option("--patience", type=int, help="Validations without gain to stop after."),
    click.option("--metric", help="What counts as gain: valid_accuracy (default), valid_macro_f1,"
                 " valid_loss."),
    click.option("--remat", is_flag=True, default=None, help="Less memory, more time."),
)  # fmt: skip


def _read_config(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Makes the keys of a TOML file the flags' defaults, so that flags given win."""
    if path is None:
        return
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not TOML ({error})", "lines such as rank = 8") from None
    flags = {
        name.removeprefix("--"): parameter
        for parameter in context.command.get_params(context)
        if isinstance(parameter, click.Option) and parameter.expose_value
        for name in parameter.opts
    }
    context.default_map = {}
    for key, value in found.items():
        flag = key.replace("_", "-")
        if flag not in flags:
            near = difflib.get_close_matches(flag, flags, 1)
            hint = f"did you mean {near[0]}?" if near else ""
            raise UsageError(f"{path}: unknown key {key!r}", "names of flags", hint)
        name = flags[flag].name or ""
        context.default_map[name] = _flag_value(path, key, value, bool(flags[flag].is_flag))


def _flag_value(path: Path, key: str, value: Any, is_flag: bool) -> Any:
    if isinstance(value, list) and all(isinstance(item, str) for item in value) and not is_flag:
        return ",".join(value)
    if isinstance(value, bool) != is_flag or not isinstance(value, bool | int | float | str):
        wanted = "true or false" if is_flag else "a number or text"
        raise UsageError(f"{path}: {key} is {value!r}", wanted)
    return value if is_flag else str(value)


@click.command(cls=Command)
@click.argument("task")
@click.option("--model", required=True, help="MODEL to start from.")
@click.option("--data", type=FILE, required=True, metavar="FILE", help="Table with labelled rows.")
@click.option("--out", type=FILE, required=True, metavar="RUN", help="Run directory to make.")
@click.option("--valid", type=FILE, metavar="FILE", help="Table with validation rows.")
@click.option("--valid-share", type=float, help="Else this share of --data; default 0.1.")
@TEXT
@LABEL
@LORA_FLAGS
@TRAINING_FLAGS
@DTYPE
@SKIP
@click.option(
    "--config", type=FILE, metavar="FILE.toml", is_eager=True, expose_value=False,
    callback=_read_config, help="Flags as keys of a TOML file; flags given here win.",
)  # fmt: skip
@JSON
def tune(
    task: str, model: str, data: Path, out: Path, valid: Path | None, valid_share: float | None,
    text: str | None, label: str | None, rank: int | None, alpha: float | None,
    targets: str | None, dropout: float | None, dtype: str | None, as_program: bool,
    **settings: Any,
) -> None:  # fmt: skip
    """Teach a model a task from a table file.

    TASK is classify: one label out of a fixed set for each text. Tables are TSV, CSV, JSONL or
    Parquet. Ctrl-C ends the training and keeps what was learnt.
    """
    if task not in TASKS:
        later = "is not available in this version" if task in LATER_TASKS else "is unknown"
        raise UsageError(f"task {task!r} {later}", f"one of {', '.join(TASKS)}")
    if valid is not None and valid_share is not None:
        raise UsageError("both --valid and --valid-share are given", "one of them")
    adapter = present(rank=rank, alpha=alpha, targets=pieces(targets), dropout=dropout)
    from gemkit.adapt.lora import Lora
    from gemkit.evaluate.run_folder import check_run_folder
    from gemkit.loading import load
    from gemkit.tasks import Classify
    from gemkit.tuning import tune as tune_model

    lora = Lora(**adapter) if adapter else None
    check_run_folder(out)
    lm = load(model, **present(dtype=dtype))
    result = tune_model(
        lm, Classify(**present(text=text, label=label)), data, valid, out=out,
        lora=lora, **present(valid_share=valid_share, **settings),
    )  # fmt: skip
    tell_skipped(result.skipped)
    _show_result(result, out, as_program)
    if result.stopped == "interrupted":
        raise click.exceptions.Exit(INTERRUPTED)


def _show_result(result: "TuneResult", out: Path, as_program: bool) -> None:
    if as_program:
        as_json({"run": str(out), "stopped": result.stopped, "metrics": result.metrics})
        return
    found = result.metrics
    if found:
        before, after = found["accuracy_before"], found["accuracy"]
        head = (f"{found['rows']} validation rows", "before", "after")
        rows = [("accuracy", f"{before:.1%}", f"{after:.1%}")]
        rows.append(("macro-F1", f"{found['macro_f1_before']:.3f}", f"{found['macro_f1']:.3f}"))
        print_table(head, rows, right=(1, 2))
    print(f"run:    {out}{f' ({result.stopped})' if result.stopped else ''}")
    print(f"report: {out / 'report.html'}")
    remark(f"next:   gemkit predict {shlex.quote(str(out))} FILE --out labelled.tsv")


@click.command(cls=Command)
@click.argument("run")
@click.argument("file", type=FILE)
@click.option("--out", type=FILE, required=True, metavar="OUT", help="Table file to write.")
@TEXT
@click.option("--probabilities", is_flag=True, help="Add a column p(label) for each label.")
@SKIP
@DTYPE
def predict(run: str, file: Path, out: Path, **settings: Any) -> None:
    """Label each row of a table file.

    OUT holds the columns and rows of FILE in their order, with the labels that the model of RUN
    gives in the column it learnt them from.
    """
    from collections import Counter

    from gemkit.evaluate.run import predict_file

    found = predict_file(run, file, out, **settings)
    shares = Counter(answer.choice for answer in found.answers).most_common()
    counts = ", ".join(f"{count} {label!r}" for label, count in shares)
    remark(f"{out}: {len(found.answers)} rows; column {found.column!r} holds {counts}")
    tell_skipped(found.table.skipped)


def tell_skipped(skipped: Sequence["BadRow"]) -> None:
    """Says how many rows were left out, and the first of them."""
    if skipped:
        count = "1 bad row" if len(skipped) == 1 else f"{len(skipped)} bad rows"
        remark(f"{count} left out; the first, line {skipped[0].line}: {skipped[0].reason}")


@click.command(cls=Command)
@MODEL
@click.argument("file", type=FILE)
@click.option("--task", help="For a MODEL that is no run: classify.")
@TEXT
@LABEL
@SKIP
@DTYPE
@JSON
def evaluate(
    model: str, file: Path, task: str | None, text: str | None, label: str | None,
    skip_bad_rows: bool, dtype: str | None, as_program: bool,
) -> None:  # fmt: skip
    """Score a model on a labelled table file.

    MODEL is a run, or with --task any model as it is.
    """
    if task is not None and task not in TASKS:
        raise UsageError(f"task {task!r} is unknown", f"one of {', '.join(TASKS)}")
    from gemkit.evaluate.run import evaluate_file, run_task
    from gemkit.tasks import Classify

    if (Path(model) / "run.json").is_file():
        chosen = run_task(model, text, label)
    elif task is None:
        raise UsageError(f"{model} is no run directory", "--task classify beside a plain model")
    else:
        chosen = Classify(**present(text=text, label=label))
    scores, table, _ = evaluate_file(model, chosen, file, skip_bad_rows, dtype)
    tell_skipped(table.skipped)
    if as_program:
        as_json(scores.to_dict())
    else:
        print(scores.table())
