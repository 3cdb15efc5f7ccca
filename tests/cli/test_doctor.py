"""gemkit doctor: a table or JSON, and the exit code for scripts."""

import json
from pathlib import Path
from typing import Any

import pytest
import small

from gemkit.diagnosis.checks import CHECKS


@pytest.fixture
def ask(call: Any, small_model: Path, tmp_path: Path) -> Any:
    """ask("row", …, flags) → what the doctor said of a table with these rows more."""

    def run(*more: str, flags: tuple[str, ...] = ()) -> Any:
        data = tmp_path / "data.tsv"
        data.write_text(small.table(40) + "".join(f"{row}\n" for row in more), encoding="utf-8")
        return call("doctor", "classify", "--model", small_model, "--data", data, *flags)

    return run


def test_a_table_and_success(ask: Any) -> None:
    done = ask()
    assert (done.code, done.err) == (0, "")
    assert all(name in done.out for name in CHECKS)
    assert "0 errors, " in done.out and "✗" not in done.out


def test_errors_fail_and_show_the_row(ask: Any) -> None:
    done = ask("40\t\tgood")
    assert (done.code, done.err) == (1, "")
    assert "✗   rows" in done.out and "data.tsv:42" in done.out.replace("\n", "")
    assert "→ mend them" in done.out and "1 error, " in done.out


def test_json(ask: Any) -> None:
    done = ask("40\t\tgood", flags=("--json",))
    found = {finding["check"]: finding for finding in json.loads(done.out)}
    assert done.code == 1 and list(found) == list(CHECKS)
    assert found["rows"]["severity"] == "error" and found["rows"]["where"].endswith("data.tsv:42")


def test_wrong_usage(ask: Any, call: Any, fails: Any) -> None:
    fails(ask(flags=("--text", "none")), "no column 'none'")
    fails(call("doctor", "clasify", "--model", "nano", "--data", "a.tsv"), "is unknown", code=2)
    fails(call("doctor", "classify", "--model", "none", "--data", "a.tsv"), "no model 'none'")
