"""Completed programs in processes with limits: what passes, what fails and why, what is out of
reach."""

import os
import sys
import time
from pathlib import Path

import pytest

from gemkit.errors import DataError, UsageError
from gemkit.evaluate import confine
from gemkit.evaluate.execution import Limits, Passed, Program, failure, failures, passed
from gemkit.evaluate.run import evaluate_file
from gemkit.tasks import Answer, Complete, Translate
from gemkit.train.data import Table

LIMITS = Limits(seconds=10, cpu_seconds=1, memory=2**29, file_bytes=2**16)
DOCTEST = 'def one():\n    """\n    >>> one()\n    {}\n    """\n    return 1\n'


@pytest.mark.parametrize(
    "program",
    [
        "", "assert __name__ == '__main__'", "import sys; sys.exit(0)", DOCTEST.format(1),
        "import os, sys; assert os.listdir() == ['completed.py'] and not sys.argv[1:]",
        "import os; assert os.environ['HOME'] == os.getcwd() and 'SECRET' not in os.environ",
        "import tempfile; tempfile.TemporaryFile().write(b'x')", "open('mine', 'w').write('x')",
        "print('x' * 10**6); open('/dev/null', 'w').write('x')", "assert input is not None",
    ],
)  # fmt: skip
def test_what_passes(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    assert failure(Program(program), LIMITS) == ""


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("assert 1 == 2", "AssertionError"),
        ("x = (", "SyntaxError: "),
        ("import sys; sys.exit(3)", "exit code 3"),
        (DOCTEST.format(2), "a doctest fails"),
        ("input()", "EOFError"),
        ("while True: pass", "ended by SIGXCPU"),
        ("x = bytearray(2**30)", "MemoryError"),
        ("open('large', 'w').write('x' * 2**17)", "File too large"),
        ("import os; os.abort()", "ended by SIGABRT"),
        ("raise ValueError('x' * 9999)", "xxx"),
    ],
)
def test_what_fails_and_why(program: str, said: str) -> None:
    found = failure(Program(program), LIMITS)
    assert said in found and len(found) <= 200


def test_a_program_that_waits_is_ended_with_all_it_started(tmp_path: Path) -> None:
    began = time.monotonic()
    child = "import os, time\nif os.fork() == 0:\n    time.sleep(60)\ntime.sleep(60)"
    found = failure(Program(child), Limits(seconds=0.5))
    # Without root's rights it may not even fork.
    assert "ran for more than 0.5 seconds" in found or "BlockingIOError" in found
    assert time.monotonic() - began < 10


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have limits only")
@pytest.mark.parametrize(
    "program",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket; socket.socket(socket.AF_UNIX)",
        "import os; os.kill(os.getppid(), 0)",
    ],
)
def test_the_network_and_other_processes_are_out_of_reach(program: str) -> None:
    assert "Operation not permitted" in failure(Program(program), LIMITS)


@pytest.mark.skipif(
    sys.platform != "linux" or confine.landlock() < 1, reason="the kernel has no Landlock"
)
def test_files_elsewhere_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    for change in ("open({!r}, 'a').write('y')", "__import__('os').remove({!r})"):
        program = Program(change.format(str(tmp_path / "mine")))
        assert "Permission denied" in failure(program, LIMITS)
    assert (tmp_path / "mine").read_text() == "x"
    assert failure(Program(f"open({str(tmp_path / 'mine')!r}).read()"), LIMITS) == ""


def test_modules_beside_a_file_are_found(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("x = 1\n")
    program = Program("import beside\nassert beside.x == 1", (str(tmp_path),))
    assert failure(program, LIMITS) == ""
    assert "No module named 'beside'" in failure(Program(program.text), LIMITS)
    assert os.listdir(tmp_path) == ["beside.py"]


def test_rates_count_what_the_truth_passes() -> None:
    good, bad = Program("x = 1"), Program("x = (")
    told: list[tuple[int, int]] = []
    truth = failures([good, None, bad, good], LIMITS, lambda *done: told.append(done))
    assert truth[0] == truth[3] == "" and truth[1] == "it is no Python" and truth[2]
    assert told == [(1, 2), (2, 2)]
    found = passed([bad, None, good, good], truth, LIMITS)
    assert found == Passed(passed=1, counted=2, rows=4, reason="it is no Python")
    assert found.rate == 0.5



@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "sums.py").write_text("def add(a, b):\n    return a + b\n")
    (tmp_path / "tree" / "use.py").write_text("from sums import add\n\nassert add(1, 2) == 3\n")
    return tmp_path / "tree"


TASK = Complete(gaps=2, spans=("expression",), max_new_tokens=8)


def test_evaluate_runs_code_only_when_asked(
    tree: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def truth(self: Complete, lm: object, table: Table, progress: object = None) -> list[Answer]:
        return [Answer(row["middle"]) for row in table.rows[:-1]] + [Answer("(")]

    monkeypatch.setattr(Complete, "predict", truth)
    with monkeypatch.context() as never:
        never.setattr("gemkit.evaluate.execution.subprocess", None)
        assert "pass@1" not in evaluate_file(small_model, TASK, tree).metrics
    found = evaluate_file(small_model, TASK, tree, run_tests=True)
    assert found.ran == Passed(passed=3, counted=4, rows=4, reason="")
    assert found.metrics["pass@1"] == found.to_dict()["pass@1"] == 0.75
    assert found.shown().splitlines()[-1].split() == ["pass@1", "75.0%"]
    assert found.to_dict()["ran"] == {"passed": 3, "counted": 4, "rows": 4, "reason": ""}


def test_what_cannot_be_run(tree: Path, small_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--run-tests is nothing to the task translate"):
        evaluate_file(small_model, Translate(), tree, run_tests=True)
    for path in tree.iterdir():
        path.write_text("import no_such_module\nx = call(no_such_module)\n")
    with pytest.raises(DataError, match="the first: ModuleNotFoundError: No module named 'no_s"):
        evaluate_file(small_model, TASK, tree, run_tests=True)
