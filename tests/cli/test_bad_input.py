"""Bad data, damaged models, full disks and Ctrl-C: one line each, and nothing half-written."""

import json
import math
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small
from safetensors.numpy import load_file, save_file

import gemkit
from gemkit.train.data import read_table

WEIGHTS = "model.safetensors"
SOUP = "The warm soup today."


@pytest.fixture
def tune(small_model: Path, tmp_path: Path) -> Callable[..., list[Any]]:
    """tune(data, *flags) → arguments that tune the small model into tmp_path/run."""

    def arguments(data: Path, *flags: Any, model: Path = small_model) -> list[Any]:
        return [
            "tune", "classify", "--model", model, "--data", data, "--out", tmp_path / "run", *flags
        ]  # fmt: skip

    return arguments


TABLES: dict[str, tuple[str, bytes, str]] = {
    "empty file": ("a.tsv", b"", "a.tsv is empty; expected a table with at least one row"),
    "only blanks": ("a.csv", b"\n \n", "a.csv is empty"),
    "only a header": ("a.tsv", b"comment\tlabel\n", "has a header line but no rows"),
    "no such column": ("a.tsv", b"words\tlabel\na\tb\n", "leave open which one is the text; pass"),
    "a row without a tab": (
        "a.tsv", b"comment\tlabel\na\tx\nb\nc\ty\n",
        "a.tsv line 3: 1 field, 'b' first; expected 2 fields separated by tabs",
    ),
    "a label seen once": (
        "a.tsv", b"comment\tlabel\na\tx\nb\tx\nc\ty\n", "label 'y' is seen once; expected at least",
    ),
    "one label": ("a.tsv", b"comment\tlabel\na\tx\nb\tx\n", "every label is 'x'; expected at le"),
    "an empty label": ("a.tsv", b"comment\tlabel\na\tx\nb\t \n", "line 3: the label is empty"),
    "an empty text": (
        "a.tsv", b"comment\tlabel\na\tx\n\ty\nb\tx\nc\ty\n", "line 3: the text is empty"
    ),
    "a line of 10 MB": (
        "a.tsv", b"comment\tlabel\na\tx\n" + b"word " * 2_000_000 + b"\ty\n",
        "line 3: 'comment' holds 10,000,000 characters; expected at most 1,048,576",
    ),
    "a text beyond the context": (
        "a.tsv", b"comment\tlabel\na\tx\nb\tx\nc\ty\n" + b"word " * 9999 + b"\ty\n",
        "tokens long with its prompt; expected at most 126; shorten",
    ),
    "another encoding": (
        "a.tsv", "comment\tlabel\n맛있는 국수와 따뜻한 차\tx\n".encode("cp949"),
        "line 2: byte 14 of the file is not UTF-8; expected text in UTF-8; it reads as CP949",
    ),
    "UTF-16": ("a.tsv", "comment\tlabel\na\tx\n".encode("utf-16"), "it reads as UTF-16; convert"),
    "no text at all": ("a.tsv", zlib.compress(b"comment\tlabel\n" * 99), "not UTF-8"),
    "a NUL": ("a.tsv", b"comment\tlabel\na\0b\tx\n", "line 2: 'comment' holds a NUL character"),
    "no JSON": ("a.jsonl", b'{"comment": 1, "label": 2}\n{"comment"\n', "line 2: no JSON"),
    "no Parquet": ("a.parquet", b"PAR1 not really PAR1", "damaged Parquet file"),
    "another suffix": ("a.xlsx", b"PK", "unknown suffix '.xlsx'; expected .tsv"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "said"), TABLES.values(), ids=TABLES.keys())
def test_tables_that_cannot_be_used(
    call: Any, fails: Any, tune: Any, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    code = 2 if "pass" in said and "leave open" in said else 1
    line = fails(call(*tune(tmp_path / name)), said, code)
    assert len(line) < 500
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_column_that_is_missing(
    call: Any, fails: Any, tune: Any, small_run: Any, tmp_path: Path
) -> None:
    for flag in ("--text", "--label"):
        said = f"no column 'words'; expected one of id, comment, label; name it with {flag}"
        fails(call(*tune(small_run.data, flag, "words")), said)
    fails(call(*tune(tmp_path / "none.tsv")), "none.tsv: No such file or directory")
    fails(call(*tune(tmp_path)), "it is a folder")
    file = tmp_path / "a.tsv"
    file.write_text("words\nx\ny\n")
    out = tmp_path / "out.tsv"
    fails(call("predict", small_run.path, file, "--out", out), "no column 'comment'")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tsv"]


def test_validation_rows_with_a_new_label(
    call: Any, fails: Any, tune: Any, small_run: Any, tmp_path: Path
) -> None:
    file = tmp_path / "valid.tsv"
    file.write_text(f"comment\tlabel\n{SOUP}\tsplendid\n")
    said = "valid.tsv line 2: label 'splendid' is unknown; expected one of bad, good"
    fails(call(*tune(small_run.data, "--valid", file)), said)


def test_labels_that_begin_each_other(call: Any, tune: Any, small_run: Any, tmp_path: Path) -> None:
    """All weights are tuned here, and the run holds a whole model."""
    files = {}
    for name in ("data", "valid"):
        text = getattr(small_run, name).read_text("utf-8")
        text = text.replace("\tgood\n", "\tgood enough\n").replace("\tbad\n", "\tgood\n")
        files[name] = tmp_path / f"{name}.tsv"
        files[name].write_text(text, "utf-8")
    flags = ["--valid", files["valid"], "--full", *small.flags(learning_rate=0.01), "--json"]
    result = json.loads(call(*tune(files["data"], *flags)).out)
    assert result["metrics"]["accuracy"] == 1.0
    out = tmp_path / "out.tsv"
    run = tmp_path / "run"
    assert call("predict", run, files["valid"], "--out", out, "--probabilities").code == 0
    table = read_table(out)
    assert table.columns == ("id", "comment", "label", "p(good)", "p(good enough)")
    assert table.texts("label") == read_table(files["valid"]).texts("label")
    for row in table.rows:
        found = {label: float(row[f"p({label})"]) for label in ("good", "good enough")}
        assert math.isclose(sum(found.values()), 1, abs_tol=4e-6)
        assert row["label"] == max(found, key=lambda label: found[label])
    scores = json.loads(call("evaluate", run, files["valid"], "--json").out)
    assert (scores["accuracy"], scores["labels"]) == (1.0, ["good", "good enough"])
    assert not (run / "adapter").exists()
    model, loaded = gemkit.load(run / "model"), gemkit.load(run)
    assert loaded.lora is None
    assert loaded.base_hash == model.base_hash != small_run.result.lm.base_hash


def test_a_loss_that_is_no_number(
    call: Any, fails: Any, tune: Any, small_run: Any, tmp_path: Path
) -> None:
    flags = ["--valid", small_run.valid, "--learning-rate", 1e30, "--rank", small.RANK]
    said = fails(call(*tune(small_run.data, *flags)), "the loss is nan at step ")
    assert "lower --learning-rate" in said and "nothing was saved" in said
    assert list(tmp_path.iterdir()) == []


def test_an_out_that_cannot_be_written(
    call: Any, fails: Any, tune: Any, small_run: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    out = tmp_path / "file" / "out.tsv"
    fails(call("predict", small_run.path, small_run.valid, "--out", out), "Not a directory")
    arguments = tune(small_run.data)
    arguments[arguments.index("--out") + 1] = tmp_path / "file" / "run"
    fails(call(*arguments), "Not a directory")
    fails(call("merge", small_run.path, tmp_path / "file" / "m"), "cannot write")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def with_tensors(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(model: Path) -> None:
        tensors = load_file(model / WEIGHTS)
        change(tensors)
        save_file(tensors, model / WEIGHTS)

    return damage


def cut(model: Path) -> None:
    (model / WEIGHTS).write_bytes((model / WEIGHTS).read_bytes()[:-1000])


def spoil_header(model: Path) -> None:
    content = bytearray((model / WEIGHTS).read_bytes())
    content[:12] = struct.pack("<Q", 40) + b"{{{{"
    (model / WEIGHTS).write_bytes(content)


NORM = "model.norm.weight"
DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut short": (cut, "is damaged or no safetensors file"),
    "a corrupt header": (spoil_header, "is damaged or no safetensors file"),
    "a renamed tensor": (
        with_tensors(lambda t: t.update({"model.nrom.weight": t.pop(NORM)})),
        f"2 tensors do not fit: missing {NORM}, unknown model.nrom.weight [32]",
    ),
    "a missing tensor": (
        with_tensors(lambda t: t.pop(NORM)), f"1 tensor does not fit: missing {NORM}"
    ),
    "another shape": (
        with_tensors(lambda t: t.update({NORM: t[NORM][:-1]})),
        f"{NORM} has shape [31], expected [32]",
    ),
    "no weights": (lambda m: (m / WEIGHTS).unlink(), "has 0 .safetensors files"),
    "no config": (lambda m: (m / "config.json").unlink(), "has no config.json; it holds"),
    "a spoilt config": (lambda m: (m / "config.json").write_text("{"), "is not JSON"),
    "no tokenizer": (
        lambda m: (m / "tokenizer.model").unlink(),
        "has no tokenizer; expected a tokenizer.model beside its weights",
    ),
    "an empty tokenizer": (lambda m: (m / "tokenizer.model").write_bytes(b""), "is empty"),
    "a spoilt tokenizer": (
        lambda m: (m / "tokenizer.model").write_bytes(b"version https://git-lfs"),
        "cannot be parsed",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "said"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_models(
    call: Any, fails: Any, tune: Any, small_model: Path, small_run: Any, tmp_path: Path,
    damage: Callable[[Path], Any], said: str,
) -> None:  # fmt: skip
    model = tmp_path / "model"
    shutil.copytree(small_model, model)
    damage(model)
    for arguments in (
        ["generate", model, "a"], ["chat", model], ["choose", model, "a", "--choice", "b"],
        ["complete", model, "--prefix", "a"], tune(small_run.data, model=model),
        ["evaluate", model, small_run.valid, "--task", "classify"],
    ):  # fmt: skip
        fails(call(*arguments), said)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("gema_2b_en", "no model 'gema_2b_en'; expected a preset's name (gemkit models lists"),
        ("gemma2_2b", "did you mean gemma2_2b_en or "),
        ("gemma_2b_en", "gemma_2b_en is not on this disk; expected"),
        ("hf://google/gemma-2b", "the network is switched off"),
        ("", "no model ''"),
        ("a\nb", "no model 'a\\nb'"),
        (".", "has no config.json"),
        ("/dev/null", "/dev/null is a plain file"),
    ],
)
def test_models_that_are_not_there(
    call: Any, fails: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("KAGGLEHUB_CACHE", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path))
    fails(call("generate", model, "a"), said)


def test_a_run_on_another_base(call: Any, fails: Any, small_run: Any, tmp_path: Path) -> None:
    shutil.copytree(small_run.path, tmp_path / "run")
    base = tmp_path / "base"
    shutil.copytree(json.loads((tmp_path / "run" / "run.json").read_text())["model"]["path"], base)
    with_tensors(lambda t: t.update({NORM: t[NORM] * 1.001}))(base)
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    described["model"]["name"] = str(base)
    (tmp_path / "run" / "run.json").write_text(json.dumps(described))
    out = tmp_path / "out.tsv"
    said = fails(call("predict", tmp_path / "run", small_run.valid, "--out", out), "with hash")
    assert "expected the base it was trained on" in said
    shutil.rmtree(base)
    described["model"]["path"] = str(base)
    (tmp_path / "run" / "run.json").write_text(json.dumps(described))
    said = fails(call("predict", tmp_path / "run", small_run.valid, "--out", out), "no model")
    assert not out.exists()


def limit(size: int) -> str:
    """Python that makes the disk full for files beyond a size."""
    return f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"


def test_a_full_disk(
    program: Any, fails: Any, small_run: Any, small_model: Path, tmp_path: Path
) -> None:
    flags = ["--model", small_model, "--data", small_run.data, "--valid", small_run.valid]
    flags += [*small.flags(rank=small.RANK), "--out", "run"]
    fails(program("tune", "classify", *flags, start=limit(9_000)), "cannot write run: ")
    arguments = ["predict", small_run.path, small_run.valid, "--out", "out.tsv"]
    fails(program(*arguments, start=limit(200)), "cannot write")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_saves(
    program: Any, small_run: Any, small_model: Path, tmp_path: Path
) -> None:
    # Ctrl-C while the fifth step's figures are shown.
    start = (
        "import os, signal, gemkit.tuning.session as t; shown = t._remark\n"
        "def press(row):\n"
        "    row['step'] == 5 and 'loss' in row and os.kill(os.getpid(), signal.SIGINT)\n"
        "    return shown(row)\n"
        "t._remark = press"
    )
    flags = ["--model", small_model, "--data", small_run.data, "--valid", small_run.valid]
    flags += [*small.flags(rank=small.RANK), "--out", "run"]
    done = program("tune", "classify", *flags, start=start)
    assert done.code == 130, done.err
    assert "run:    run (interrupted)\n" in done.out
    assert done.err == "next:   gemkit predict run FILE --out labelled.tsv\n"
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (run["stopped"], run["best_step"]) == ("interrupted", 5)
    lm = gemkit.load(tmp_path / "run")
    assert lm.lora is not None and lm.lora.rank == small.RANK
    assert (tmp_path / "run" / "report.html").is_file()


def test_ctrl_c_before_the_first_step_leaves_nothing(
    program: Any, small_run: Any, small_model: Path, tmp_path: Path
) -> None:
    start = (
        "import signal, gemkit.tuning.session as t\n"
        # A shell has what it runs in the background ignore the signal.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "t.Session.answers = lambda *_: signal.raise_signal(signal.SIGINT)"
    )
    flags = ["--model", small_model, "--data", small_run.data, "--out", "run"]
    done = program("tune", "classify", *flags, start=start)
    assert done == (130, "", "gemkit: interrupted\n")
    assert list(tmp_path.iterdir()) == []
