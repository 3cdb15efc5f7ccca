"""The example scripts: short, one for each task, and they run."""

import dataclasses
import runpy
from pathlib import Path
from typing import Any

import pytest

import gemkit
from gemkit.tasks import TASKS

EXAMPLES = Path(__file__).parents[1] / "examples"
LONGEST = 60
SETTINGS = {
    "epochs": 0.01, "batch_tokens": 4096, "valid_answers": 1,
    "lora": gemkit.Lora(1, targets=("q",)),
}  # fmt: skip


@pytest.fixture(scope="module")
def roomy_model(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model with a context that the samples fit in."""
    lm = gemkit.load(small_model)
    config = dataclasses.replace(lm.config, max_positions=2048)
    folder = tmp_path_factory.mktemp("roomy") / "model"
    gemkit.LanguageModel("roomy", config, lm.base, lm.tokenizer).save(folder)
    return folder


def test_there_is_one_for_each_task_and_it_is_short() -> None:
    for name in TASKS:
        lines = (EXAMPLES / f"{name}.py").read_text("utf-8").splitlines()
        assert len(lines) < LONGEST, name


@pytest.mark.parametrize("name", TASKS)
def test_it_runs(
    name: str, roomy_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script: dict[str, Any] = runpy.run_path(str(EXAMPLES / f"{name}.py"))
    script["main"](str(roomy_model), str(tmp_path / "run"), **SETTINGS)
    shown = capsys.readouterr().out.splitlines()
    measure = TASKS[name].measures[0]
    assert any(line.startswith(f"{measure}_before ") for line in shown)
    assert (tmp_path / "run" / "report.html").is_file()
    assert gemkit.load(tmp_path / "run").adapter is not None
