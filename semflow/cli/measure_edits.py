"""Compare edits of a trained synthetic scene with the scene made without an object, or with it elsewhere.

Prints a line of scores per case and writes RUN/edits/measured/CASE.png: unedited, edited, truth. The true scenes are made below
the root of the data where they are missing.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

from semflow.cli.make_scene import parse_shift
from semflow.cli.run_options import add_run_options, choose_scene, require_run
from semflow.utils.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `semflow measure-edits`."""
    add_run_options(parser)
    parser.add_argument("--data_dir", help="root of the scenes, if it has moved since training")
    parser.add_argument("--without", action="append", default=[], metavar="KIND", help="remove this; may be given several times")
    parser.add_argument("--shift", action="append", default=[], type=parse_shift, metavar="KIND:X,Y,Z",
                        help="displace this, in units of the scene's poses_bounds.npy; may be given several times")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="one in N views (default: all)")


def run(args: argparse.Namespace) -> int:
    """Measure the edits that are asked for.

    Raises:
        SemflowError: a bad run or option, or a scene that was not made by `semflow make-scene`.
    """
    if args.every < 1:
        raise ConfigError(f"every = {args.every}: must be at least 1")
    if not args.without and not args.shift:
        raise ConfigError("measure-edits: nothing to measure; name it by --without KIND or --shift KIND:X,Y,Z")
    require_run(args.run, None, "")
    from semflow.data.loader import load_scene
    from semflow.engine.loading import load_run
    from semflow.engine.scenes import require_same_scene
    from semflow.tasks.editing.edited import scenery_of
    from semflow.tasks.editing.measure import displacement, measure, removal, views_of
    from semflow.viz.panels import side_by_side
    from semflow.viz.video import write_png

    loaded = load_run(args.run, args.device, args.checkpoint, args.set)
    data = replace(loaded.config.data, dir=args.data_dir or loaded.config.data.dir)
    scene, root = choose_scene(args.scene, loaded.scene_names), Path(data.dir)
    original = load_scene(data, scene, loaded.cameras(scene).c2w.device)
    require_same_scene(loaded.scenes[scene], original, root)
    scenery = scenery_of(loaded, scene)
    cases = [removal(root, scene, loaded, kind) for kind in args.without]
    cases += [displacement(root, scene, loaded, kind, vector) for kind, vector in args.shift]
    for case in cases:
        scores, pictures = measure(loaded, scenery, original, case, views_of(original.frames)[::args.every])
        print(case.name, json.dumps(case.edit.to_json()), json.dumps(asdict(scores)), flush=True)
        tiles = [tile for row in pictures for tile in zip(("unedited", "edited", "truth"), row)]
        write_png(args.run / "edits" / "measured" / f"{case.name}.png", side_by_side(tiles, columns=3))
    return 0
