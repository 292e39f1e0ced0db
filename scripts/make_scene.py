"""Make a synthetic dynamic scene: the same as `semflow make-scene`."""

import argparse

from semflow.cli import make_scene
from semflow.utils.errors import SemflowError

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=make_scene.__doc__, allow_abbrev=False)
    make_scene.add_arguments(parser)
    try:
        parser.exit(make_scene.run(parser.parse_args()))
    except SemflowError as error:
        parser.exit(2, f"error: {error}\n")
