"""Compare edits of a trained synthetic scene with the scene made without an object, or with it elsewhere."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from semflow.cli.make_scene import parse_shift
from semflow.data.loader import load_scene
from semflow.engine.loading import load_run
from semflow.tasks.editing.edited import scenery_of
from semflow.tasks.editing.measure import displacement, measure, removal, views_of
from semflow.viz.panels import side_by_side
from semflow.viz.video import write_png

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--run", type=Path, default=Path("runs/balloon"))
    parser.add_argument("--without", action="append", default=[], metavar="KIND")
    parser.add_argument("--shift", action="append", default=[], type=parse_shift, metavar="KIND:X,Y,Z")
    parser.add_argument("--every", type=int, default=1, help="one in so many views")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    loaded = load_run(args.run, args.device, settings=args.set)
    scene, root = loaded.scene_names[0], Path(loaded.config.data.dir)
    scenery, original = scenery_of(loaded, scene), load_scene(loaded.config.data, scene)
    cases = [removal(root, scene, loaded, kind) for kind in args.without]
    cases += [displacement(root, scene, loaded, kind, vector) for kind, vector in args.shift]
    for case in cases:
        scores, pictures = measure(loaded, scenery, original, case, views_of(original.frames)[::args.every])
        print(case.name, json.dumps(case.edit.to_json()), json.dumps(asdict(scores)), flush=True)
        tiles = [tile for row in pictures for tile in zip(("unedited", "edited", "truth"), row)]
        write_png(args.run / "edits" / "measured" / f"{case.name}.png", side_by_side(tiles, columns=3))
