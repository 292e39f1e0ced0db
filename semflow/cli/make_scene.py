"""Make a synthetic dynamic scene with exact truth; without options, the demo scene data/balloon."""

from __future__ import annotations

import argparse
from pathlib import Path

from semflow.data.synthetic import DEMO, NoiseSpec, make_scene
from semflow.data.synthetic.classes import MOVING


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `semflow make-scene`."""
    parser.add_argument("--root", type=Path, default=Path("data"), help="data root (default: data)")
    parser.add_argument("--name", default=DEMO["name"], help="folder of the scene (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=DEMO["seed"], help="seed of everything random (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=DEMO["frames"], help="frames = cameras (default: %(default)s)")
    parser.add_argument("--height", type=int, default=DEMO["height"],
                        help="height of images_2; images is twice as large (default: %(default)s)")
    parser.add_argument("--width", type=int, default=DEMO["width"], help="width of images_2 (default: %(default)s)")
    parser.add_argument("--objects", type=parse_objects, default=DEMO["objects"],
                        help=f"moving objects: a number, or kinds among {','.join(MOVING)}, comma-separated, with "
                             f"repeats (default: {','.join(DEMO['objects'])})")
    for name, meaning in (("flow", "std of the flow noise, relative to the RMS flow"),
                          ("depth", "std of the inverse depth noise, relative"),
                          ("poses", "std of the pose noise: centres / nearest depth, and radians"),
                          ("labels", "share of the training label pixels made wrong")):
        parser.add_argument(f"--noise-{name}", type=float, default=0.0, help=f"{meaning}, 0 to 1 (default: 0)")
    parser.add_argument("--without", action="append", default=[], metavar="KIND",
                        help="leave out the objects of this kind, all else unchanged; may be given several times")
    parser.add_argument("--shift", type=parse_shift, action="append", default=[], metavar="KIND:X,Y,Z",
                        help="displace the objects of this kind by a world vector, all else unchanged; may be repeated")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing synthetic scene")


def parse_objects(text: str) -> tuple[str, ...]:
    """`balloon,ball` -> those kinds; `5` -> that many kinds, taken in turn."""
    if text.strip().isdecimal():
        return tuple(MOVING[i % len(MOVING)] for i in range(int(text)))
    return tuple(part.strip() for part in text.split(","))


def parse_shift(text: str) -> tuple[str, tuple[float, float, float]]:
    """`ball:0.5,0,0` -> the kind and the vector; ArgumentTypeError for anything else."""
    kind, _, vector = text.partition(":")
    try:
        x, y, z = (float(part) for part in vector.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: write it as KIND:X,Y,Z") from error
    return kind.strip(), (x, y, z)


def run(args: argparse.Namespace) -> int:
    """Make the scene; returns the exit status."""
    noise = NoiseSpec(args.noise_flow, args.noise_depth, args.noise_poses, args.noise_labels)
    folder = make_scene(args.root, args.name, seed=args.seed, frames=args.frames, height=args.height,
                        width=args.width, objects=args.objects, noise=noise, without=tuple(args.without),
                        shift=dict(args.shift), overwrite=args.overwrite)
    print(f"Made {folder}")
    return 0
