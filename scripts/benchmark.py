"""Same as `semflow benchmark`; see `python scripts/benchmark.py --help`."""

import sys

from semflow.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["benchmark", *sys.argv[1:]]))
