"""Same as `semflow evaluate`; see `python scripts/evaluate.py --help`."""

import sys

from semflow.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
