"""The scripts that make nano import each other by plain name, as they do when they are run."""

import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "nano"
sys.path.insert(0, str(SCRIPTS))
