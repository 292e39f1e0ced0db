"""Train a semantic field: `python train.py --config configs/balloon.txt`; the same as `semflow train`."""

import sys

from semflow.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
