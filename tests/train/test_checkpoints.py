"""Checkpoints: what comes back, which of them counts, and what a damaged or full disk costs.

That a killed run comes to the same in every bit is shown by `kill.py`, here with three kills.
"""

import dataclasses
import gc
import logging
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import kill
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from gemkit.errors import UsageError
from gemkit.train.checkpoints import Checkpoints
from gemkit.train.loop import Record
from gemkit.train.optimizer import OptimizerSettings, make_optimizer
from gemkit.train.step import TrainState, init_state

RULE = make_optimizer(OptimizerSettings(), 10)
EMPTY = optax.GradientTransformation(lambda tree: jnp.zeros((0, 3)), optax.identity().update)
IDENTITY = {"model": "abc", "settings": {"seed": 0, "targets": ("q", "v")}}


def state(step: int = 0, dtype: str = "float32", rule: Any = RULE) -> TrainState:
    tree = {"q": {"a": jnp.arange(6.0, dtype=dtype).reshape(2, 3) + step, "b": jnp.ones(4) * step}}
    made = init_state(tree, rule, seed=3, average=True)
    return dataclasses.replace(made, step=jnp.asarray(step, jnp.int32))


def record(step: int) -> Record:
    best = jax.tree.map(np.asarray, state(step - step % 2).trained)
    rows = [{"step": n, "loss": 1 / n} for n in range(1, step + 1)]
    return Record(rows, best, step - step % 2, (-0.25, -1 / 3), step % 2)


@dataclasses.dataclass
class Kept:
    folder: Path
    lines: list[str]

    def keeper(self, **settings: Any) -> Checkpoints:
        settings = {"identity": IDENTITY, "every": 1, "resume": True} | settings
        return Checkpoints(self.folder, tell=self.lines.append, **settings)

    def saved(self, *steps: int) -> "Kept":
        for step in steps:
            self.keeper().save(state(step), record(step))
        return self

    def found(self, **settings: Any) -> int | None:
        loaded = self.keeper(**settings).load(state())
        return None if loaded is None else int(loaded[0].step)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "run" / "checkpoints", [])


def assert_same(first: Any, second: Any) -> None:
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert a.dtype == b.dtype and np.array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rule", [RULE, optax.sgd(0.1, momentum=0.9), EMPTY],
                         ids=["adamw", "optax", "empty"])  # fmt: skip
def test_all_comes_back(kept: Kept, dtype: str, rule: Any) -> None:
    before, told = state(7, dtype, rule), record(7)
    told.best = jax.tree.map(np.asarray, state(6, dtype).trained)
    kept.keeper().save(before, told)
    loaded = kept.keeper().load(state(0, dtype, rule))
    assert loaded is not None
    assert_same(loaded[0], before)
    after = dataclasses.asdict(loaded[1])
    assert_same(after.pop("best"), told.best)
    assert after == {k: v for k, v in dataclasses.asdict(told).items() if k != "best"}
    assert kept.lines == ["going on after step 7"]


def test_two_are_kept_and_the_newest_counts(kept: Kept) -> None:
    kept.saved(2, 9, 10, 100)
    assert sorted(path.name for path in kept.folder.iterdir()) == ["step-00000010", "step-00000100"]
    assert kept.found() == 100


def best_files(place: Path) -> dict[str, tuple[int, bytes]]:
    """Name of each file of the best tree → its number on the disk and its content."""
    files = [file for file in place.glob("best/**/*") if file.is_file()]
    return {str(f.relative_to(place)): (f.stat().st_ino, f.read_bytes()) for f in files}


def test_a_best_tree_that_stays_is_stored_once(kept: Kept) -> None:
    kept.saved(4, 5)
    first, again = (best_files(kept.folder / f"step-0000000{n}") for n in (4, 5))
    assert first and first == again
    kept.saved(6)
    numbers = {number for number, _ in best_files(kept.folder / "step-00000006").values()}
    assert numbers.isdisjoint(number for number, _ in again.values())
    loaded = kept.keeper().load(state())
    assert loaded is not None
    assert_same(loaded[1].best, record(6).best)


def test_a_best_tree_damaged_since_is_not_made_good_by_its_second_name(kept: Kept) -> None:
    kept.saved(4)
    name, (_, content) = sorted(best_files(kept.folder / "step-00000004").items())[-1]
    (kept.folder / "step-00000004" / name).write_bytes(content[:-1])
    kept.saved(5)
    assert kept.found() is None


def test_a_best_tree_is_copied_where_no_second_name_can_be(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr("os.link", refuse)
    kept.saved(4, 5)
    loaded = kept.keeper().load(state())
    assert loaded is not None
    assert_same(loaded[1].best, record(5).best)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_a_damaged_one_costs_an_interval(kept: Kept, damage: Callable[[Path], None]) -> None:
    """Every file of it, and of the folders of Orbax in it, one after the other."""
    kept.saved(1, 3)
    newest, whole = kept.folder / "step-00000003", kept.folder.parent / "whole"
    shutil.copytree(newest, whole)
    names = [file.relative_to(whole) for file in whole.rglob("*") if file.is_file()]
    assert {name.parts[0] for name in names} == {"state", "best", "record.json", "sums.json"}
    for name in names:
        if (whole / name).stat().st_size == 0 and damage is not Path.unlink:
            continue
        shutil.copytree(whole, newest, dirs_exist_ok=True)
        damage(newest / name)
        kept.lines.clear()
        assert kept.found() == 1, name
        assert "step-00000003 is damaged" in kept.lines[0] and "\n" not in kept.lines[0]
        assert kept.lines[1:] == ["going on after step 1"]


@pytest.mark.parametrize("added", ["state/d/more", "best/more", "more"])
def test_what_was_added_is_damage_too(kept: Kept, added: str) -> None:
    kept.saved(1, 3)
    (kept.folder / "step-00000003" / added).write_bytes(b"")
    assert kept.found() == 1
    assert f"step-00000003 is damaged: {added} is not what was written" in kept.lines[0]


def test_what_a_kill_leaves_half_written_is_nothing(kept: Kept) -> None:
    kept.saved(1)
    half = kept.folder / ".step-00000002.12ab.partial" / "state.orbax-checkpoint-tmp"
    half.mkdir(parents=True)
    (half / "_METADATA").write_bytes(b"half")
    assert kept.found() == 1
    assert [path.name for path in kept.folder.iterdir()] == ["step-00000001"]


def test_without_any_it_starts_anew(kept: Kept) -> None:
    assert kept.found() is None
    assert kept.lines == [f"{kept.folder} holds no checkpoint; starting from the beginning"]
    kept.saved(1)
    assert kept.found(resume=False) is None


def test_a_full_disk_is_said_and_not_fatal(
    kept: Kept, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """In one line of ours, however much Orbax and its threads have to say."""
    kept.saved(1)
    left: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", left.append)
    large = dataclasses.replace(state(2), trained=[jnp.ones(4000)] * 60)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        kept.keeper().save(large, record(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    gc.collect()
    place = kept.folder / "step-00000002"
    assert kept.lines == [
        f"no checkpoint at step 2: cannot write {place}: File too large; expected a place that "
        "can be written, with room; nothing was changed; training goes on"
    ]
    assert (capfd.readouterr(), caplog.messages, left) == (("", ""), [], [])
    assert [path.name for path in kept.folder.iterdir()] == ["step-00000001"]
    assert kept.found() == 1


def test_orbax_is_quiet_and_nobody_else(
    kept: Kept, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    hook = sys.unraisablehook
    assert kept.saved(1).found() == 1
    assert (capfd.readouterr(), caplog.messages) == (("", ""), [])
    logging.getLogger("absl").warning("of another")
    assert caplog.messages == ["of another"]
    assert sys.unraisablehook is hook


def test_arrays_come_back_where_they_were(kept: Kept) -> None:
    mesh = jax.make_mesh((1,), ("x",))
    over = NamedSharding(mesh, PartitionSpec("x"))
    like = state()
    like.trained["q"]["a"] = jax.device_put(like.trained["q"]["a"], over)
    kept.keeper().save(like, Record())
    loaded = kept.keeper().load(like)
    assert loaded is not None
    leaves = [jax.tree.leaves(tree) for tree in (like, loaded[0])]
    places = [[(leaf.sharding, leaf.committed) for leaf in some] for some in leaves]
    assert places[0] == places[1]
    assert {committed for _, committed in places[0]} == {True, False}


@pytest.mark.parametrize("change, said", [
    ({"model": "xyz"}, "whose model was \"abc\", now \"xyz\""),
    ({"settings": {"seed": 1}}, "whose settings was"),
    ({"more": 1}, "whose more was null, now 1"),
])  # fmt: skip
def test_another_run_is_refused(kept: Kept, change: dict[str, Any], said: str) -> None:
    kept.saved(1)
    with pytest.raises(UsageError, match=said):
        kept.found(identity=IDENTITY | change)


def test_another_optimizer_is_refused(kept: Kept) -> None:
    kept.saved(1)
    with pytest.raises(UsageError, match="another optimizer or adapter"):
        kept.keeper().load(state(rule=optax.sgd(0.1, momentum=0.9)))


def test_when_one_is_due(kept: Kept) -> None:
    every = kept.keeper(every=4)
    assert [step for step in range(1, 10) if every.due(step, False)] == [4, 8]
    assert every.due(5, True)
    assert not kept.keeper(every=None).due(5, True)
    assert kept.keeper(every=None, seconds=0).due(5, False)
    with pytest.raises(UsageError, match="checkpoint_every is 0"):
        kept.keeper(every=0)


def test_what_is_left_at_the_end(kept: Kept) -> None:
    kept.saved(1, 2).keeper().finish(keep=True)
    assert [path.name for path in kept.folder.iterdir()] == ["step-00000002"]
    kept.keeper().finish(keep=False)
    assert not kept.folder.exists()


def test_killed_at_random_it_comes_to_the_same(tmp_path: Path) -> None:
    assert kill.killed(tmp_path, times=3, seed=1) >= 1
