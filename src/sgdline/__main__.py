"""`python -m sgdline` is the command `sgdline`."""

import sys

from sgdline.cli import main

if __name__ == "__main__":
    sys.exit(main())
