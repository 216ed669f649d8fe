"""``python -m farl`` is the ``farl`` command."""

import sys

from farl.cli import main

if __name__ == "__main__":
    sys.exit(main())
