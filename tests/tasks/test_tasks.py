"""The table of tasks: every one can be described, typed, tried on a sample and read about."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import gemkit
from gemkit.cli.task_flags import TASK_SETTINGS
from gemkit.errors import DataError, UsageError
from gemkit.metrics.scores import METRICS
from gemkit.tasks import TASKS, changed, make_task
from gemkit.tasks.base import split_groups
from gemkit.train.data import Table, read_table

SAMPLES = Path(gemkit.__file__).parent / "samples"
SAMPLE_OF = {
    "classify": "reviews/train.tsv", "instruct": "instruct/train.jsonl",
    "chat": "chat/train.jsonl", "translate": "translate/train.tsv", "complete": "complete",
    "text": "text",
}  # fmt: skip
WITHOUT_FLAG = {"labels", "seed"}


@pytest.mark.parametrize("name", TASKS)
def test_every_task(name: str) -> None:
    task = make_task(name)
    assert task.name == name and type(task).__name__.lower() == name
    assert task.measures and set(task.measures) <= set(METRICS)
    assert type(task).from_dict(json.loads(json.dumps(task.to_dict()))) == task
    fields = {field.name for field in dataclasses.fields(task)}  # type: ignore[arg-type]
    assert fields - WITHOUT_FLAG <= set(TASK_SETTINGS)
    documented = type(task).__doc__ or ""
    assert [field for field in fields if field not in documented] == []


def test_every_flag_is_a_setting_of_some_task() -> None:
    settings = {name for task in TASKS for name in make_task(task).to_dict()}
    assert set(TASK_SETTINGS) <= settings


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_sample_it_can_learn_from(name: str) -> None:
    assert SAMPLE_OF.keys() == TASKS.keys()
    task = make_task(name)
    table = task.read(SAMPLES / SAMPLE_OF[name])
    task = task.fitted(table)
    assert len(task.shown(table)) == len(table.rows)
    assert task.column
    train, valid = task.split(table, 0.4, seed=0)
    assert len(train.rows) > 0 and len(valid.rows) > 0


def test_settings_are_changed_by_name() -> None:
    task = changed(make_task("translate"), source="a", target=None, max_new_tokens=9)
    assert task == make_task("translate", source="a", max_new_tokens=9)
    with pytest.raises(UsageError, match="--label is nothing to the task translate"):
        changed(task, label="x")
    with pytest.raises(UsageError, match="task 'sing' is unknown; expected one of classify"):
        make_task("sing")


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("instruct", {"template": "poem"}, "template is 'poem'; expected one of instruct, chat"),
        ("instruct", {"context_rows": "some"}, "context_rows is 'some'; expected keep or drop"),
        ("translate", {"template": "x"}, "expected one of translate, chat"),
        ("complete", {"gaps": 0}, "gaps is 0"),
        ("complete", {"spm_share": 2}, "spm_share is 2"),
        ("complete", {"context_files": -1}, "context_files is -1"),
        ("complete", {"spans": ("word",)}, "span 'word' is unknown; expected some of line"),
    ],
)
def test_settings_out_of_range(name: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_task(name, **settings)


def table_of(tmp_path: Path, count: int) -> Table:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"n": {n}}}\n' for n in range(count)))
    return read_table(path)


def test_groups_are_split_whole(tmp_path: Path) -> None:
    table = table_of(tmp_path, 10)
    groups = ["abc"[n % 3] for n in range(10)]
    train, valid = split_groups(table, groups, 0.3, seed=1)
    assert sorted([*train.lines, *valid.lines]) == table.lines
    held = {groups[line - 1] for line in valid.lines}
    assert held.isdisjoint(groups[line - 1] for line in train.lines)
    assert 3 <= len(valid.rows) < 10
    assert split_groups(table, groups, 0.3, seed=1)[1].lines == valid.lines
    parts = {tuple(split_groups(table, groups, 0.3, seed)[1].lines) for seed in range(9)}
    assert len(parts) > 1


def test_what_cannot_be_split(tmp_path: Path) -> None:
    table = table_of(tmp_path, 3)
    with pytest.raises(DataError, match="at least 2, to split off.*--valid-share 0"):
        split_groups(table, ["a"] * 3, 0.3, seed=1)
    with pytest.raises(UsageError, match="--valid-share is 1"):
        split_groups(table, ["a", "b", "c"], 1, seed=1)
