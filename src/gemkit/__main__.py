"""`python -m gemkit` is `gemkit`."""

import sys

from gemkit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
