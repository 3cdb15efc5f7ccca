"""Progress bars: seen by people, silent for programs."""

import io
import sys
import time
from collections.abc import Callable

import jax
import pytest

from gemkit import progress as module
from gemkit.progress import peak_memory, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def watched(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Makes stderr a terminal; called in the test, as pytest sets stderr anew before it."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return stream


def until(seen: Callable[[], bool]) -> None:
    """Waits for another thread."""
    for _ in range(1000):
        if seen():
            return
        time.sleep(0.01)
    raise AssertionError("nothing was shown in 10 seconds")


def test_nothing_is_shown_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0)
    with progress("work") as update:
        update(1, 2, "remark")
    assert capsys.readouterr() == ("", "")


def test_short_work_and_unwanted_bars_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched(monkeypatch)
    with progress("work") as update:
        update(1, 2, "remark")
    with progress("work", enabled=False) as update:
        update(1, 2, "remark")
    assert terminal.getvalue() == ""


def test_longer_work_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched(monkeypatch)
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0)
    with progress("work", remark="compiling") as update:
        until(lambda: "compiling" in terminal.getvalue())
        update(1, 2, "loss 0.5")
    shown = terminal.getvalue()
    assert "work" in shown and "1/2" in shown and "loss 0.5" in shown
    # The cursor that the bar hid is shown again.
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1


def test_an_error_ends_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched(monkeypatch)
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0)
    with pytest.raises(ValueError), progress("work"):
        until(lambda: "work" in terminal.getvalue())
        raise ValueError
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h") == 1


def test_a_narrow_terminal_keeps_the_beginning_of_the_remark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = watched(monkeypatch)
    monkeypatch.setenv("COLUMNS", "64")
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0)
    with progress("work") as update:
        update(10, 1234, "loss 0.5  " + "and much more " * 5)
        until(lambda: "10/1234" in terminal.getvalue())
    assert "loss 0.5  " in terminal.getvalue() and "…" in terminal.getvalue()


def test_peak_memory_grows_with_what_is_held() -> None:
    before = peak_memory()
    held = bytearray(b"x") * (200 << 20)
    assert peak_memory() >= before > 10 << 20
    assert peak_memory() >= len(held)


def test_the_accelerator_is_asked_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Device:
        def __init__(self, peak: int | None) -> None:
            self.peak = peak

        def memory_stats(self) -> dict[str, int] | None:
            return None if self.peak is None else {"peak_bytes_in_use": self.peak}

    monkeypatch.setattr(jax, "local_devices", lambda: [Device(7), Device(9), Device(None)])
    assert peak_memory() == 9
