"""Generated answers, and the loss, from a small model: as its own words say one by one."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gemkit
from gemkit.evaluate.likelihood import likelihood_of, measure_likelihood
from gemkit.evaluate.run import evaluate_file, predict_file
from gemkit.language_model import LanguageModel
from gemkit.tasks import Translate
from gemkit.train.data import read_table

LIMIT = 6
ROWS = [("The warm soup.", "La soupe."), ("The cold tea at noon.", "Le thé."), ("Bread", "Pain")]
TASK = Translate(max_new_tokens=LIMIT)


@pytest.fixture(scope="module")
def lm(small_model: Path) -> LanguageModel:
    return gemkit.load(small_model)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.tsv"
    lines = (f"{n}\t{source}\t{target}\n" for n, (source, target) in enumerate(ROWS))
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_answers_are_those_of_generate(lm: LanguageModel, file: Path) -> None:
    told: list[tuple[int, int]] = []
    table = TASK.read(file)
    answers = TASK.predict(lm, table, lambda done, total: told.append((done, total)))
    asked = [f"Translate this into French:\n{source}\n" for source, _ in ROWS]
    assert [answer.text for answer in answers] == lm.generate(asked, max_new_tokens=LIMIT)
    assert told[-1] == (3, 3)
    assert [answer.probability for answer in answers] == [None] * 3


def test_answers_end_at_their_ends(lm: LanguageModel, file: Path) -> None:
    table = TASK.read(file)
    prompts = TASK.found(table).prompts(lm.tokenizer, table, 128)
    whole = lm.answer_ids(prompts, max_new_tokens=LIMIT)[0][0]
    first = whole.ids[0]
    ended = type("Ended", (Translate,), {"ends": lambda self, tokenizer: (first,)})
    assert ended(**TASK.to_dict()).predict(lm, table)[0].text == "" != whole.text


def test_the_loss_is_that_of_the_answers(lm: LanguageModel, file: Path) -> None:
    table = TASK.read(file)
    examples = TASK.fitted(table).examples(lm.tokenizer, table, 128)
    nats, count, size = 0.0, 0, 0
    for example in examples:
        start = example.target.index(True)
        logits = np.asarray(lm.logits(example.ids), np.float64)[start - 1 : -1]
        shifted = logits - logits.max(-1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        nats -= logs[np.arange(len(logs)), example.ids[start:]].sum()
        count += len(logs)
        size += len(lm.tokenizer.decode(example.ids[start:]).encode())
    found = measure_likelihood(lm, examples)
    assert (found.tokens, found.bytes) == (count, size)
    assert found.loss == pytest.approx(nats / count, rel=1e-4)
    figures = found.figures(["bits_per_byte", "perplexity", "bleu", "loss"]).metrics
    assert figures["bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-4)
    assert figures["perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-3)
    assert list(figures) == ["bits_per_byte", "perplexity", "loss"]
    assert likelihood_of(found.loss, examples, lm.tokenizer) == found


def test_a_run_of_a_generating_task(lm: LanguageModel, file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = gemkit.tune(
        lm, TASK, file, file, out=run, epochs=2, valid_answers=2, learning_rate=0.01
    )
    assert set(result.metrics) == {
        "loss", "perplexity", "bleu", "chrf", "loss_before", "perplexity_before", "bleu_before",
        "chrf_before", "rows", "answered",
    }  # fmt: skip
    assert (result.metrics["rows"], result.metrics["answered"]) == (3, 2)
    assert result.metrics["loss"] < result.metrics["loss_before"]
    validations = [row for row in result.history if "valid_loss" in row]
    assert {key for row in validations for key in row} == {"step", "epoch", "valid_loss"}
    assert result.metrics["loss"] == pytest.approx(min(row["valid_loss"] for row in validations))
    predictions = read_table(run / "predictions.tsv")
    assert predictions.columns == ("id", "src", "dst", "answer")
    assert predictions.texts("src") == [ROWS[0][0], ROWS[2][0]]
    assert json.loads((run / "run.json").read_text())["task"]["name"] == "translate"

    found = evaluate_file(run, result_task(run), file)
    assert found.metrics["loss"] == pytest.approx(result.metrics["loss"], rel=1e-4)
    assert [line.split()[0] for line in found.shown().splitlines()] == [
        "loss", "perplexity", "BLEU", "chrF"
    ]  # fmt: skip
    assert found.to_dict() == {"rows": 3, **found.metrics}

    questions = tmp_path / "questions.csv"
    questions.write_text("src,n\nThe warm soup.,7\n")
    done = predict_file(run, questions, tmp_path / "out.csv")
    written = read_table(tmp_path / "out.csv")
    assert (written.columns, done.column) == (("src", "n", "dst"), "dst")
    assert (written.rows[0]["n"], written.rows[0]["dst"]) == ("7", done.answers[0].text)


def result_task(run: Path) -> Any:
    from gemkit.evaluate.run import run_task

    task = run_task(run)
    assert (task.source, task.target) == ("src", "dst")  # type: ignore[attr-defined]
    return task


def test_answers_count_in_validations_where_they_are_the_metric(
    lm: LanguageModel, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    predict = TASK.predict

    def counted(self: Any, lm: Any, table: Any, progress: Any = None) -> Any:
        asked.append(len(table.rows))
        return predict(lm, table, progress)

    monkeypatch.setattr(Translate, "predict", counted)
    result = gemkit.tune(lm, TASK, file, file, epochs=1, metric="valid_chrf")
    assert asked == [3, 3, 3]
    assert {"valid_bleu", "valid_chrf"} <= set(result.history[-1])
