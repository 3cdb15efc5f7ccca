"""The documentation is built without a warning, and what it shows is run.

`python` blocks of a page run in order as one program, `sh` blocks line by line; `text` is not run.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT / "docs"))


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def runnable(page: Path) -> bool:
    return any(kind in ("python", "sh") for kind, _ in blocks(page))


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder that looks as a clone does to what the pages show, to write results into."""
    for name in ("src", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("page", list(filter(runnable, PAGES)), ids=name_of)
def test_what_a_page_shows_runs(page: Path, clone: Path) -> None:
    shell = 'gemkit() { "$PYTHON" -m gemkit "$@"; }; set -e\n'
    program = ""
    for kind, text in blocks(page):
        if kind == "sh":
            command = ["bash", "-c", f"PYTHON={sys.executable}\n{shell}{text}"]
            done = run(command, clone)
            assert done.returncode == 0, done.stderr
        elif kind == "python":
            program += text
    if program:
        done = run([sys.executable, "-c", program], clone)
        assert done.returncode == 0, done.stderr


def test_every_block_says_what_it_is() -> None:
    kinds = {(name_of(page), kind) for page in PAGES for kind, _ in blocks(page)}
    assert {kind for _, kind in kinds} <= {"python", "sh", "text", "json", "toml"}, kinds


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """Strict: a broken link, an unknown anchor or a page outside the menu fails."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = run(command, ROOT)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reference" / "commands.html").read_text(encoding="utf-8")
    assert "gemkit tune" in page and "from code:" not in page
    outside = re.compile(r'<(?:script|link|img)[^>]+(?:src|href)="https?://')
    for built in tmp_path.rglob("*.html"):
        assert not outside.search(built.read_text(encoding="utf-8")), built
