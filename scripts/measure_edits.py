"""Same as `semflow measure-edits`; see `python scripts/measure_edits.py --help`."""

import sys

from semflow.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["measure-edits", *sys.argv[1:]]))
