"""tune, predict and evaluate as typed, from a table file to labels."""

import json
from pathlib import Path
from typing import Any

import pytest
import small

from gemkit.tasks import TASKS
from gemkit.train.data import read_table

FLAGS = small.flags(rank=small.RANK)


@pytest.fixture
def arguments(small_run: Any, small_model: Path, tmp_path: Path) -> list[Any]:
    """Flags of the run that `small_run` made with the Python interface."""
    return [
        "classify", "--model", small_model, "--data", small_run.data, "--valid", small_run.valid,
        "--out", tmp_path / "run", *FLAGS,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def typed(small_run: Any, small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run made by the command line."""
    from gemkit.cli.main import main

    out = tmp_path_factory.mktemp("typed") / "run"
    flags = ["--data", small_run.data, "--valid", small_run.valid, "--out", out, *FLAGS]
    assert main(["tune", "classify", "--model", str(small_model), *map(str, flags)]) == 0
    return out


def without_times(run: Path) -> dict[str, Any]:
    found = json.loads((run / "run.json").read_text("utf-8"))
    found.pop("finished")
    return found


def test_flags_mean_what_the_python_interface_means(typed: Path, small_run: Any) -> None:
    assert without_times(typed) == without_times(small_run.path)
    weights = "adapter/adapter_model.safetensors"
    assert (typed / weights).read_bytes() == (small_run.path / weights).read_bytes()


def test_what_tune_says(call: Any, arguments: list[Any], tmp_path: Path, small_run: Any) -> None:
    done = call("tune", *arguments)
    assert done.code == 0
    metrics = small_run.result.metrics
    assert done.out.splitlines() == [
        "12 validation rows  before   after",
        f"accuracy            {metrics['accuracy_before']:>6.1%}  {metrics['accuracy']:>6.1%}",
        f"macro-F1            {metrics['macro_f1_before']:>6.3f}  {metrics['macro_f1']:>6.3f}",
        f"run:    {tmp_path / 'run'}",
        f"report: {tmp_path / 'run' / 'report.html'}",
    ]
    assert done.err == f"next:   gemkit predict {tmp_path / 'run'} FILE --out labelled.tsv\n"


def test_a_config_file_stands_for_flags_and_flags_win(
    call: Any, small_run: Any, small_model: Path, typed: Path, tmp_path: Path
) -> None:
    config = tmp_path / "recipe.toml"
    settings = small.SETTINGS | {"rank": 3, "model": str(small_model), "data": str(small_run.data)}
    lines = [f"{key.replace('_', '-')} = {json.dumps(value)}" for key, value in settings.items()]
    lines += [f"valid = {json.dumps(str(small_run.valid))}", 'text = "comment"', "seed = 0"]
    lines += ['targets = ["q", "k", "v", "o", "gate", "up", "down"]', 'remat = "off"']
    config.write_text("\n".join(lines))
    done = call(
        "tune", "classify", "--config", config, "--rank", small.RANK, "--out", tmp_path / "run",
        "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert json.loads(done.out) == {
        "run": str(tmp_path / "run"), "stopped": "",
        "metrics": json.loads((typed / "run.json").read_text())["metrics"],
    }  # fmt: skip
    assert without_times(tmp_path / "run") == without_times(typed)


@pytest.mark.parametrize(
    ("line", "said", "code"),
    [
        ("rank = ", "recipe.toml is not TOML (Invalid value (at end of document))", 1),
        ("learning-rat = 1", "unknown key 'learning-rat'; expected names of flags; did you mean "
         "learning-rate?", 2),
        ("[lora]\nrank = 4", "unknown key 'lora'", 2),
        ("config = 'a'", "unknown key 'config'", 2),
        ("rank = true", "rank is True; expected a number or text", 2),
        ("full = 1", "full is 1; expected true or false", 2),
        ("targets = [1]", "targets is [1]", 2),
        ("rank = 'few'", "Invalid value for '--rank': 'few' is not a valid integer", 2),
        ("rank = 0", "LoRA rank is 0", 2),
    ],
)  # fmt: skip
def test_config_files_that_are_wrong(
    call: Any, fails: Any, arguments: list[Any], tmp_path: Path, line: str, said: str, code: int
) -> None:
    config = tmp_path / "recipe.toml"
    config.write_text(line)
    without_rank = arguments[: arguments.index("--rank")]
    fails(call("tune", *without_rank, "--config", config), said, code)
    fails(call("tune", *without_rank, "--config", tmp_path / "none.toml"), "cannot read", 1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--rank", 0], "LoRA rank is 0; expected a rank of at least 1; try rank 4"),
        (["--rank", -3], "LoRA rank is -3"),
        (["--targets", "q,w"], "LoRA target 'w' names no matrix"),
        (["--targets", ","], "--targets is ','; expected names separated by commas"),
        (["--alpha", 0], "LoRA alpha is 0"),
        (["--dropout", 1], "LoRA dropout is 1"),
        (["--full"], "both full and lora are given"),
        (["--epochs", 0], "epochs is 0"),
        (["--epochs", "inf"], "epochs is inf"),
        (["--batch-tokens", 0], "batch_tokens is 0"),
        (["--learning-rate", 0], "learning rate is 0"),
        (["--learning-rate", "nan"], "learning rate is nan"),
        (["--optimizer", "adam"], "optimizer 'adam'; expected one of adamw"),
        (["--schedule", "steps"], "schedule 'steps'; expected one of cosine"),
        (["--warmup", -1], "warmup is -1"),
        (["--weight-decay", -1], "weight_decay is -1"),
        (["--clip-norm", 0], "clip_norm is 0"),
        (["--seed", -1], "seed is -1"),
        (["--max-length", 0], "max_length is 0"),
        (["--valid-every", 0], "valid_every is 0"),
        (["--patience", 0], "patience is 0"),
        (["--metric", "bleu"], "metric is 'bleu'; expected one of valid_loss, valid_accuracy"),
        (["--valid-share", 0.2], "both --valid and --valid-share are given"),
        (["--dtype", "int4"], "dtype is int4"),
        (["--label", "comment", "--text", "comment"], "column 'comment' is both text and label"),
    ],
)
def test_settings_out_of_range(
    call: Any, fails: Any, arguments: list[Any], tmp_path: Path, flags: list[Any], said: str
) -> None:
    fails(call("tune", *arguments, *flags), said, code=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [-0.1, 1, 1.5])
def test_shares_that_are_none(
    call: Any, fails: Any, small_run: Any, small_model: Path, tmp_path: Path, share: float
) -> None:
    flags = ["--data", small_run.data, "--out", tmp_path / "run", "--valid-share", share]
    fails(call("tune", "classify", "--model", small_model, *flags), "--valid-share is", 2)


def test_other_tasks(call: Any, fails: Any, arguments: list[Any]) -> None:
    said = fails(call("tune", "sing", *arguments[1:]), "task 'sing' is unknown", 2)
    assert said.endswith(f"expected one of {', '.join(TASKS)}\n")


def test_a_flag_of_another_task(call: Any, fails: Any, arguments: list[Any]) -> None:
    said = "--source is nothing to the task classify; expected of --text, --label"
    fails(call("tune", *arguments, "--source", "x"), said, 2)


def test_a_folder_that_is_not_empty_and_a_tuned_model(
    call: Any, fails: Any, arguments: list[Any], small_run: Any, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("x")
    fails(call("tune", *arguments), "exists and is not an empty folder", 2)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine"]
    (tmp_path / "run" / "mine").unlink()
    arguments[arguments.index("--model") + 1] = small_run.path
    fails(call("tune", *arguments), "already carries an adapter", 2)


def test_predict_and_evaluate_a_run(call: Any, typed: Path, small_run: Any, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.tsv"
    done = call("predict", typed, small_run.valid, "--out", out, "--probabilities")
    assert done == (0, "", f"{out}: 12 rows; column 'label' holds 6 'good', 6 'bad'\n")
    table = read_table(out)
    assert table.columns == ("id", "comment", "label", "p(bad)", "p(good)")
    assert table.texts("label") == read_table(small_run.valid).texts("label")

    scores = json.loads(call("evaluate", typed, small_run.valid, "--json").out)
    assert scores["accuracy"] == small_run.result.metrics["accuracy"]
    assert scores["labels"] == ["bad", "good"]
    shown = call("evaluate", typed, small_run.valid)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith(f"accuracy {scores['accuracy']:.1%} ({scores['correct']} of 12)")
    assert "truth \\ answer" in shown.out


def test_evaluate_a_plain_model(
    call: Any, fails: Any, small_model: Path, small_run: Any, tmp_path: Path
) -> None:
    fails(call("evaluate", small_model, small_run.valid), "--task classify beside a plain model", 2)
    fails(call("evaluate", small_model, small_run.valid, "--task", "x"), "task 'x' is unknown", 2)
    done = call("evaluate", small_model, small_run.valid, "--task", "classify", "--json")
    scores = json.loads(done.out)
    assert scores["accuracy"] == small_run.result.metrics["accuracy_before"]


def test_bad_rows_are_counted(call: Any, typed: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.tsv"
    file.write_text("id\tcomment\n1\tThe warm soup today.\n2\n3\t\n4\tThe cold soup today.\n")
    done = call("predict", typed, file, "--out", tmp_path / "b.tsv", "--skip-bad-rows")
    assert done.err.splitlines() == [
        f"{tmp_path / 'b.tsv'}: 2 rows; column 'label' holds 1 'good', 1 'bad'",
        "2 bad rows left out; the first, line 3: 1 field, '2' first",
    ]


def test_tune_leaves_bad_rows_out(
    call: Any, fails: Any, arguments: list[Any], small_run: Any, tmp_path: Path
) -> None:
    data = tmp_path / "data.tsv"
    bad = f"90\t\tgood\n91\tThe soup.\t\n92\t{'tea ' * small.CONTEXT}\tgood\n"
    data.write_text(small_run.data.read_text("utf-8") + bad, encoding="utf-8")
    arguments[arguments.index("--data") + 1] = data
    fails(call("tune", *arguments), "data.tsv line 51: the label is empty")
    done = call("tune", *arguments, "--skip-bad-rows")
    assert done.code == 0
    assert "3 bad rows left out; the first, line 50: " in done.err
    run = without_times(tmp_path / "run")
    assert run["rows"] == {"train": 48, "valid": 12, "skipped": 3}
    assert run["settings"]["skip_bad_rows"] is True
    assert run["metrics"] == small_run.result.metrics
