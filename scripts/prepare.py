"""Same as `semflow prepare`; see `python scripts/prepare.py --help`."""

import sys

from semflow.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["prepare", *sys.argv[1:]]))
