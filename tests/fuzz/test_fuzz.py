"""A short run of the fuzzer; `make fuzz` is the long one."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import mutate
import run


def test_every_kind_of_file_is_fuzzed() -> None:
    import readers

    assert list(readers.READERS) == run.KINDS


def test_damaged_files_are_read_or_refused_in_one_line() -> None:
    assert run.fuzz(run.KINDS, seed=1, count=40) == []


def test_the_fuzzer_notices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Exceptions, crashes and hangs of a reader are told apart and none ends the run."""
    broken = tmp_path / "broken.py"
    here = Path(run.__file__).parent
    broken.write_text(SABOTAGE.format(folder=str(here), source=str(here.parents[1] / "src")))
    monkeypatch.setattr(run, "__file__", str(broken))
    monkeypatch.setattr(run, "HANGS_AFTER", 5.0)
    found = [outcome for _, _, outcome in run.outcomes(["peft"], 0, 5, tmp_path)]
    assert found[0] in ("read", "refused") and found[4] in ("read", "refused")
    assert found[1].startswith("ValueError: no line")
    assert "the process ended with" in found[2] and "the process hung" in found[3]


SABOTAGE = """
import os, sys, time
sys.path[:0] = [{folder!r}, {source!r}]
import run
whole = run.damaged
def damaged(folder, seed, number):
    run.number = number
    return whole(folder, seed, number)
run.damaged = damaged
import readers
make, read = readers.READERS["peft"]
def sabotaged(folder):
    if folder.name == "sample" and run.number == 1:
        raise ValueError("no line")
    if folder.name == "sample" and run.number == 2:
        os.abort()
    if folder.name == "sample" and run.number == 3:
        time.sleep(60)
    return read(folder)
readers.READERS["peft"] = readers.Reader(make, sabotaged)
run.main()
"""


def test_damage_is_repeatable_and_does_something() -> None:
    content = bytes(range(256)) * 40
    first = [mutate.mutate(content, random.Random(n)) for n in range(200)]
    assert first == [mutate.mutate(content, random.Random(n)) for n in range(200)]
    assert sum(damaged != content for damaged in first) > 180
    assert len(set(first)) > 180
