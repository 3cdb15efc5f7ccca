"""The benchmarks run, on a model so small that they take seconds; nothing here looks at times."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gemkit.kernels import native

ROOT = Path(__file__).parents[1]


def bench(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(ROOT / "benchmarks/run.py"), "--quick",
         "--out", str(out), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], str]:
    """What all benchmarks print, their record and their table."""
    out = tmp_path_factory.mktemp("results")
    done = bench(out)
    assert done.returncode == 0, done.stderr
    assert len(list(out.iterdir())) == 2
    (record,), (table,) = out.glob("*-quick.json"), out.glob("*-quick.md")
    return done.stdout, json.loads(record.read_text("utf-8")), table.read_text("utf-8")


def test_every_benchmark_gives_figures(results: tuple[str, dict[str, Any], str]) -> None:
    rows = results[1]["rows"]
    names = ("tune", "label", "decode", "generate", "startup", "files", "memory", "products")
    assert tuple(rows) == names
    assert all(rows[name] for name in names[:-1])
    assert bool(rows["products"]) == (native.reason_against() is None)
    assert all(row["gemkit"] > 0 for row in sum(rows.values(), []))


def test_the_table_is_printed_and_written(results: tuple[str, dict[str, Any], str]) -> None:
    printed, record, table = results
    assert printed.strip() == table.strip()
    for row in sum(record["rows"].values(), []):
        assert f"| {row['what']} |" in table


def test_the_record_says_how_it_came_about(results: tuple[str, dict[str, Any], str]) -> None:
    record = results[1]
    assert record["command"].startswith("python benchmarks/run.py --quick")
    assert record["versions"]["jax"] and record["size"]["config"]["vocab_size"] == 500


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    done = bench(tmp_path, "tunes")
    assert done.returncode == 2
    assert "no benchmark 'tunes'; there are tune, label, decode, generate, startup" in done.stderr
    assert not list(tmp_path.iterdir())
