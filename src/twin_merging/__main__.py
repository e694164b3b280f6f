"""`python -m twin_merging COMMAND ...`."""

import sys

from twin_merging.api.commands import main

if __name__ == "__main__":
    sys.exit(main())
