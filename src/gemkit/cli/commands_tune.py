"""Commands with table files: tune, predict, evaluate."""

import difflib
import math
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
    MODEL,
    SKIP,
    Command,
    as_json,
    options,
    pieces,
    present,
    remark,
    warned,
)  # fmt: skip
from gemkit.cli.task_flags import TASK_FLAGS, TASK_SETTINGS
from gemkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from gemkit.train.padded import Padding
    from gemkit.train.table_files import BadRow
    from gemkit.tuning import TuneResult

INTERRUPTED = 130

FILE = click.Path(path_type=Path)

# Figures in the help are those of gemkit.tune; a test compares.
LORA_FLAGS = options(
    click.option("--rank", type=int, metavar="R", help="Of LoRA; default 4."),
    click.option("--alpha", type=float, help="LoRA's scale is alpha / rank; default the rank."),
    click.option("--targets", metavar="q,v", help="Matrices to adapt; default every linear layer."),
    click.option("--dropout", type=float, help="Of the adapter's inputs; default 0."),
    click.option("--rslora", is_flag=True, default=None, help="Scale by alpha / sqrt(rank)."),
    click.option("--dora", is_flag=True, default=None, help="Train the rows' lengths too."),
    click.option("--form", metavar="peft|keras", help="keras: what Keras's enable_lora trains."),
    click.option("--quantize", metavar="int8|int4", help="Bits of the frozen weights below."),
    click.option("--full", is_flag=True, default=None, help="Train all weights, not LoRA."),
)
TRAINING_FLAGS = options(
    click.option("--epochs", type=float, help="Passes over the rows; default 6."),
    click.option("--batch-tokens", type=int, help="Token slots of a step; default 512."),
    click.option("--learning-rate", type=float, help="Peak; default 5e-3, with --full 5e-4."),
    click.option("--weight-decay", type=float, help="Decoupled, norms left out; default 0."),
    click.option("--optimizer", help="adamw (default), keras_adamw, sgd, adafactor."),
    click.option("--schedule", help="cosine (default), linear or constant."),
    click.option("--warmup", type=float, help="Steps, or share of them below 1; default 0.1."),
    click.option("--clip-norm", type=float, help="Largest gradient norm; default 1. inf: any."),
    click.option("--seed", type=int, help="Of order, adapter and dropout; default 0."),
    click.option("--max-length", type=int, help="Most tokens of an example; default the context."),
    click.option("--valid-every", type=int, help="Steps between validations; default an epoch."),
    click.option("--patience", type=int, help="Validations without gain to stop after."),
    click.option("--metric", help="What counts as gain: valid_loss, or valid_ and a measure of the"
                 " task, such as valid_accuracy; default the task's own."),
    click.option("--valid-answers", type=int, help="Most validation rows to answer; default all,"
                 " or 64 where answers are generated."),
    click.option("--accumulate", type=int, help="Batches a step, counted by tokens; default 1."),
    click.option("--ema", type=float, help="Keep a moving average with this decay, as 0.999."),
    click.option("--remat", help="off (default), layer or full: less memory, more time."),
    click.option("--padding", metavar="LENGTH[,ROWS]", help="Rows and loss of Keras's fit:"
                 " sequence_length and batch_size, every token learnt, nothing shuffled."),
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
@click.option("--data", type=FILE, required=True, metavar="FILE", help="What to learn from.")
@click.option("--out", type=FILE, required=True, metavar="RUN", help="Run directory to make.")
@click.option("--valid", type=FILE, metavar="FILE", help="Validation rows.")
@click.option("--valid-share", type=float, help="Else this share of --data; default 0.1.")
@TASK_FLAGS
@LORA_FLAGS
@TRAINING_FLAGS
@click.option(
    "--tensorboard", is_flag=True, default=None,
    help="Write TensorBoard's event files into the run too; wants tensorboardX.",
)
@click.option("--checkpoint-every", type=int, help="Steps; default two minutes. Keeps the last.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@DTYPE
@SKIP
@click.option(
    "--config", type=FILE, metavar="FILE.toml", is_eager=True, expose_value=False,
    callback=_read_config, help="Flags as keys of a TOML file; flags given here win.",
)  # fmt: skip
@JSON
def tune(
    task: str, model: str, data: Path, out: Path, valid: Path | None, valid_share: float | None,
    rank: int | None, alpha: float | None, targets: str | None, dropout: float | None,
    rslora: bool | None, dora: bool | None, form: str | None, quantize: str | None,
    dtype: str | None, padding: str | None, resume: bool, as_program: bool, **settings: Any,
) -> None:  # fmt: skip
    """Teach a model a task from a table file.

    TASK is classify, instruct, chat, translate, complete or text. Tables are TSV, CSV, JSONL or
    Parquet; complete and text also read source files and text files, or folders of them. Ctrl-C
    ends the training and keeps what was learnt. A run that was cut off goes on with --resume.
    """
    if valid is not None and valid_share is not None:
        raise UsageError("both --valid and --valid-share are given", "one of them")
    adapter = present(
        rank=rank, alpha=alpha, targets=pieces(targets), dropout=dropout, rslora=rslora,
        dora=dora, form=form,
    )  # fmt: skip
    from gemkit.adapt.lora import Lora
    from gemkit.evaluate.run_folder import check_run_folder
    from gemkit.loading import load
    from gemkit.tasks import make_task
    from gemkit.tuning import tune as tune_model

    chosen = make_task(task, **_task_settings(settings))
    rows = None if padding is None else _padding(padding)
    lora = Lora(**adapter) if adapter else None
    check_run_folder(out, resume)
    lm = load(model, **present(dtype=dtype, quantize=quantize))
    with warned():
        result = tune_model(
            lm, chosen, data, valid, out=out, lora=lora, resume=resume,
            **present(valid_share=valid_share, padding=rows, **settings),
        )  # fmt: skip
    tell_skipped(result.skipped)
    _show_result(result, out, as_program, padded=rows is not None)
    if result.stopped == "interrupted":
        raise click.exceptions.Exit(INTERRUPTED)


def _task_settings(flags: dict[str, Any]) -> dict[str, Any]:
    """Takes the flags of `TASK_FLAGS` out of all flags."""
    return {name: flags.pop(name) for name in TASK_SETTINGS}


def _padding(text: str) -> "Padding":
    """`512,4` → rows of 512 tokens, 4 a batch."""
    from gemkit.train.padded import Padding

    length, _, rows = text.partition(",")
    try:
        return Padding(int(length), int(rows or 1))
    except ValueError:
        raise UsageError(f"--padding is {text!r}", "LENGTH or LENGTH,ROWS, such as 512,1") from None


def _keras_epochs(result: "TuneResult") -> list[dict[str, float]]:
    """What Keras prints of each epoch of padded rows."""
    from gemkit.train.padded import epoch_means

    last = max((row["epoch"] for row in result.history), default=0)
    return [{"epoch": n, **epoch_means(result.history, n)} for n in range(1, math.ceil(last) + 1)]


def _show_result(result: "TuneResult", out: Path, as_program: bool, padded: bool) -> None:
    from gemkit.metrics.scores import METRICS

    epochs = _keras_epochs(result) if padded else []
    if as_program:
        more = {"epochs": epochs} if padded else {}
        as_json({"run": str(out), "stopped": result.stopped, "metrics": result.metrics, **more})
        return
    if epochs:
        cells = [[f"{e['epoch']}", f"{e['loss']:.4f}", f"{e['accuracy']:.4f}"] for e in epochs]
        print_table(("epoch", "loss", "accuracy"), cells, right=(0, 1, 2))
    found = result.metrics
    if found:
        head = (f"{found['rows']} validation rows", "before", "after")
        rows = [
            (metric.title, metric.show(found[f"{name}_before"]), metric.show(found[name]))
            for name, metric in METRICS.items()
            if name in found
        ]
        print_table(head, rows, right=(1, 2))
        if "answered" in found:
            remark(f"{found['answered']} of the validation rows were answered")
    print(f"run:    {out}{f' ({result.stopped})' if result.stopped else ''}")
    print(f"report: {out / 'report.html'}")
    remark(f"next:   gemkit predict {shlex.quote(str(out))} FILE --out labelled.tsv")


@click.command(cls=Command)
@click.argument("run")
@click.argument("file", type=FILE)
@click.option("--out", type=FILE, required=True, metavar="OUT", help="Table file to write.")
@TASK_FLAGS
@click.option("--probabilities", is_flag=True, help="Add a column p(label) for each label.")
@SKIP
@DTYPE
def predict(run: str, file: Path, out: Path, **settings: Any) -> None:
    """Answer each row of a file: label, translate, complete.

    OUT holds the columns and rows of FILE in their order, with the answers that the model of RUN
    gives in the column it learnt them from.
    """
    from collections import Counter

    from gemkit.evaluate.run import predict_file

    found = predict_file(run, file, out, **present(**settings))
    holds = ""
    if any(answer.probabilities for answer in found.answers):
        shares = Counter(answer.text for answer in found.answers).most_common()
        holds = " holds " + ", ".join(f"{count} {label!r}" for label, count in shares)
    remark(f"{out}: {len(found.answers)} rows; column {found.column!r}{holds}")
    tell_skipped(found.table.skipped)


def tell_skipped(skipped: Sequence["BadRow"]) -> None:
    """Says how many rows were left out, and the first of them."""
    if skipped:
        count = "1 bad row" if len(skipped) == 1 else f"{len(skipped)} bad rows"
        remark(f"{count} left out; the first, line {skipped[0].line}: {skipped[0].reason}")


@click.command(cls=Command)
@MODEL
@click.argument("file", type=FILE)
@click.option("--task", help="For a MODEL that is no run: classify, translate, …")
@TASK_FLAGS
@click.option(
    "--run-tests", is_flag=True,
    help="Run the Python files that the task complete completes, for pass@1: code that a model"
    " wrote, in a process with limits.",
)  # fmt: skip
@SKIP
@DTYPE
@JSON
def evaluate(
    model: str, file: Path, task: str | None, run_tests: bool, skip_bad_rows: bool,
    dtype: str | None, as_program: bool, **settings: Any,
) -> None:  # fmt: skip
    """Score a model on a file with the true answers.

    MODEL is a run, or with --task any model as it is.
    """
    from gemkit.evaluate.run import evaluate_file, run_task
    from gemkit.tasks import make_task

    if (Path(model) / "run.json").is_file():
        chosen = run_task(model, **settings)
    elif task is None:
        raise UsageError(f"{model} is no run directory", "--task classify beside a plain model")
    else:
        chosen = make_task(task, **settings)
    found = evaluate_file(model, chosen, file, skip_bad_rows, dtype, run_tests=run_tests)
    tell_skipped(found.table.skipped)
    if found.ran is not None and found.ran.counted < found.ran.rows:
        left = f"pass@1 counts {found.ran.counted} of {found.ran.rows} rows"
        remark(f"{left}; others fail with the true answer too, the first: {found.ran.reason}")
    if as_program:
        as_json(found.to_dict())
    else:
        print(found.shown())
