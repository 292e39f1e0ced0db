"""Same as `semflow make-scene`; see `python scripts/make_scene.py --help`."""

import sys

from semflow.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["make-scene", *sys.argv[1:]]))
