"""What README shows is run."""

import re
import subprocess
import sys
from pathlib import Path

from environment import of_a_user

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=ROOT, capture_output=True, text=True, check=False,
            env=of_a_user(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert re.search(r"\d+% of the validation rows are right", done.stdout)


def test_every_command_it_names_exists() -> None:
    from gemkit.cli.main import main

    blocks = "\n".join(re.split(r"^```.*$", README, flags=re.MULTILINE)[1::2])
    named = set(re.findall(r"^(?:\$ )?gemkit (\w+)", blocks, re.MULTILINE))
    assert len(named) >= 9
    for command in sorted(named):
        assert main([command, "--help"]) == 0


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("https://"):
            assert (ROOT / target).exists(), target


def test_nothing_is_left_to_fill_in() -> None:
    assert "@@" not in README
