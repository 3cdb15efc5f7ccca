"""Checkpoints: what comes back, which of them counts, and what a damaged or full disk costs.

That a killed run comes to the same in every bit is shown by `kill.py`, here with three kills.
"""

import dataclasses
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import kill
import numpy as np
import optax
import pytest

from gemkit.errors import UsageError
from gemkit.train import checkpoints as module
from gemkit.train.checkpoints import Checkpoints
from gemkit.train.loop import Record
from gemkit.train.optimizer import OptimizerSettings, make_optimizer
from gemkit.train.step import TrainState, init_state

RULE = make_optimizer(OptimizerSettings(), 10)
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
@pytest.mark.parametrize("rule", [RULE, optax.sgd(0.1, momentum=0.9)], ids=["adamw", "optax"])
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


def test_a_best_tree_that_stays_is_stored_once(kept: Kept) -> None:
    kept.saved(4, 5)
    files = [kept.folder / f"step-0000000{n}" / "best.safetensors" for n in (4, 5)]
    assert files[0].samefile(files[1])
    kept.saved(6)
    assert not files[1].samefile(kept.folder / "step-00000006" / "best.safetensors")
    loaded = kept.keeper().load(state())
    assert loaded is not None
    assert_same(loaded[1].best, record(6).best)


def damaged(place: Path) -> Iterator[tuple[str, bytes | None]]:
    for file in sorted(place.iterdir()):
        content = file.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]
        for changed in (None, b"", content[:middle], flipped):
            yield file.name, changed


def test_a_damaged_one_costs_an_interval(kept: Kept) -> None:
    """Every file of it missing, empty, cut short or with one bit flipped."""
    kept.saved(1)
    ways = list(damaged(kept.folder / "step-00000001"))
    assert len(ways) == 16
    for name, content in ways:
        kept.saved(1, 3)
        file = kept.folder / "step-00000003" / name
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        kept.lines.clear()
        assert kept.found() == 1, (name, content)
        assert "step-00000003 is damaged" in kept.lines[0] and "\n" not in kept.lines[0]
        assert kept.lines[1:] == ["going on after step 1"]


def test_what_a_kill_leaves_half_written_is_nothing(kept: Kept) -> None:
    kept.saved(1)
    (kept.folder / ".step-00000002.12ab.partial").mkdir()
    (kept.folder / ".step-00000002.12ab.partial" / "state.safetensors").write_bytes(b"half")
    assert kept.found() == 1
    assert [path.name for path in kept.folder.iterdir()] == ["step-00000001"]


def test_without_any_it_starts_anew(kept: Kept) -> None:
    assert kept.found() is None
    assert kept.lines == [f"{kept.folder} holds no checkpoint; starting from the beginning"]
    kept.saved(1)
    assert kept.found(resume=False) is None


def test_a_full_disk_is_said_and_not_fatal(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.saved(1)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_file", full)
        kept.saved(2)
    assert "no checkpoint at step 2" in kept.lines[0] and "No space left" in kept.lines[0]
    assert "training goes on" in kept.lines[0] and "\n" not in kept.lines[0]
    assert [path.name for path in kept.folder.iterdir()] == ["step-00000001"]
    assert kept.found() == 1


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
