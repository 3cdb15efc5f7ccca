"""Start-up times and installed size."""

import importlib.util
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from measure import Row, Seconds, interleave, limited
from models import Size
from packaging.requirements import Requirement
from rivals import KERAS, installed

ROOT = Path(__file__).parents[1]
MEGABYTE = 1e6


def run(size: Size) -> list[Row]:
    """Rows for importing, for `--help` and for the size of gemkit with all it needs."""
    sides = {
        "bare": started("-c", "pass"),
        "import": started("-c", "import gemkit"),
        "model": started("-c", "import gemkit.language_model"),
    }
    if importlib.util.find_spec("gemkit.cli.main") is not None:
        sides["help"] = started("-c", "from gemkit.cli.main import main; main()", "--help")
    if installed(KERAS):
        sides[KERAS] = started("-c", "import keras_hub")
    _, found = interleave(sides, size.starts)
    seconds = {name: parts["process"] for name, parts in found.items()}
    above = {
        name: [a - b for a, b in zip(times, seconds["bare"], strict=True)]
        for name, times in seconds.items()
    }
    rows = [
        limited("import gemkit", "s", above["import"], 0.3, "beyond a bare interpreter"),
        limited(
            "import what runs a model", "s", above["model"],
            remark=f"JAX included; beside it `import keras_hub`, {KERAS} on JAX",
            theirs=above.get(KERAS),
        ),
    ]  # fmt: skip
    if "help" in seconds:
        rows.append(limited("gemkit --help", "s", seconds["help"], 0.5, "the whole process"))
    megabytes, names = installed_size()
    remark = f"gemkit and the {len(names)} packages it needs: {', '.join(sorted(names))}"
    return [*rows, limited("installed size", "MB", [megabytes], 900, remark)]


def started(*arguments: str) -> Callable[[], Seconds]:
    """A fresh interpreter from start to end."""

    def side() -> Seconds:
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        return {"process": time.perf_counter() - began}

    return side


def installed_size() -> tuple[float, set[str]]:
    """Megabytes of the package with all it needs, and the names of what it needs.

    Follows the requirements instead of measuring the environment, which may hold more.
    """
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    waiting, names = list(declared["dependencies"]), set[str]()
    total = sum(
        file.stat().st_size for file in (ROOT / "src/gemkit").rglob("*") if file.is_file()
    )  # fmt: skip
    while waiting:
        requirement = Requirement(waiting.pop())
        name = requirement.name.lower().replace("_", "-")
        if name in names or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError:
            raise SystemExit(f"benchmarks: {name} is not installed; run make setup") from None
        names.add(name)
        waiting += found.requires or []
        paths = {Path(str(found.locate_file(file))) for file in found.files or []}
        total += sum(path.stat().st_size for path in paths if path.is_file())
    return total / MEGABYTE, names
