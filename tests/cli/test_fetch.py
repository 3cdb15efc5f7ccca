"""gemkit fetch against a stand-in for Hugging Face on this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in import Fault, StandIn, serving

ROOT = Path(__file__).parents[2]
# More than what the client reads in one go.
WEIGHTS = bytes(12 * 2**20)
START = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from gemkit.cli.main import main; sys.exit(main())"
)


@pytest.fixture
def hub() -> Iterator[StandIn]:
    with serving() as stand_in:
        stand_in.models["me/small"] = {"config.json": b"{}", "model.safetensors": WEIGHTS}
        yield stand_in


@pytest.fixture
def environment(hub: StandIn, tmp_path: Path) -> dict[str, str]:
    """A user's who asks the stand-in."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "KAGGLE"))}
    return {
        **kept, "PYTHONPATH": str(ROOT / "src"), "HF_ENDPOINT": hub.url, "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path), "PYTHONWARNINGS": "error",
    }  # fmt: skip


def start(environment: dict[str, str], *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", START, *arguments], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_ctrl_c_and_then_the_rest(
    hub: StandIn, environment: dict[str, str], tmp_path: Path
) -> None:
    hub.faults = [Fault("resolve", 200, cut=11 * 2**20, hangs=True)]
    hub.faults.insert(0, Fault("config.json", 200, cut=2, times=2))
    program = start(environment, "fetch", "hf://me/small")
    blobs = tmp_path / "hub" / "models--me--small" / "blobs"
    end = time.monotonic() + 60
    while not any(path.stat().st_size >= 10 * 2**20 for path in blobs.glob("*.incomplete")):
        assert program.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert (program.returncode, out) == (130, "")
    assert "what has come is kept, and the same command goes on" in err and "Trace" not in err

    hub.faults, hub.asked = [], []
    program = start(environment, "fetch", "hf://me/small", "--json")
    out, err = program.communicate(timeout=60)
    assert program.returncode == 0, err
    folder = Path(json.loads(out)["path"])
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert [a.headers["range"] for a in hub.asked if "range" in a.headers] == [
        f"bytes={10 * 2**20}-"
    ]
    assert err == "hf://me/small is on this disk; try: gemkit info hf://me/small\n"


def test_errors_are_one_line(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for arguments, code, said in (
        (("fetch", "hf://me/small"), 1, "network is switched off"),
        (("fetch", "gemma_2b_en", "--from", "hf"), 1, "network is switched off"),
        (("generate", "hf://me/small", "x"), 1, "network is switched off"),
        (("fetch", "gema_2b_en"), 1, "did you mean gemma_2b_en"),
        (("fetch", "gemma_2b_en", "--from", "disk"), 2, "is not one of"),
    ):
        done = call(*arguments)
        assert (done.code, done.out) == (code, "")
        assert said in done.err and done.err.count("\n") == 1


def test_what_is_built_in_needs_no_hub(call: Any) -> None:
    done = call("fetch", "nano")
    assert done.code == 0 and Path(done.out.strip()).name == "nano"
