"""The documentation is built without a warning, and what it shows is run.

`python` blocks of a page run in order as one program, `sh` blocks line by line; `text` is not run.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from environment import of_many_programs

from gemkit.cli.main import COMMANDS, cli
from gemkit.cli.options import DEBUG_FLAG

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
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=of_many_programs()
    )


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


def test_commands_and_flags_that_pages_name_exist() -> None:
    """Those in text too, which are not run."""
    flags = {name for command in COMMANDS for p in command.params for name in (*p.opts, "--help")}
    flags |= {name for command in COMMANDS for p in command.params for name in p.secondary_opts}
    flags |= {name for parameter in cli.params for name in parameter.opts} | {DEBUG_FLAG}
    commands = {command.name for command in COMMANDS}
    for page in (*PAGES, ROOT / "README.md"):
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
        assert named <= flags, (page, named - flags)
        shown = "\n".join(block for _, block in blocks(page))
        called = set(re.findall(r"^gemkit ([a-z]+)", shown, re.MULTILINE))
        called |= set(re.findall(r"`gemkit ([a-z]+)", text))
        assert called <= commands, (page, called - commands)


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """Strict: a broken link, an unknown anchor or a page outside the menu fails."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = run(command, ROOT)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reference" / "commands.html").read_text(encoding="utf-8")
    assert "gemkit tune" in page and "from code:" not in page
    outside = re.compile(r'<(?:script|link|img)[^>]+(?:src|href)="https?://')
    pages = {path: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")}
    for path, text in pages.items():
        assert not outside.search(text), path
        for link in re.findall(r'href="([^":]+)"', text):
            place, _, anchor = link.partition("#")
            target = (path.parent / place).resolve() if place else path
            # MkDocs' page for what is not found is meant for the root of a server.
            assert path.name == "404.html" or target.exists(), (path, link)
            assert not anchor or target not in pages or f'id="{anchor}"' in pages[target], link
    python = (tmp_path / "reference" / "python.html").read_text(encoding="utf-8")
    for name in ("gemkit.doctor", "LanguageModel.generate", "tasks.Classify", "gemkit.Lora"):
        assert f">{name}<a" in python, name
