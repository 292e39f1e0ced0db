"""Edit a trained scene by class or instance: remove, recolour, move, copy, delay things; see docs/editing.md.

Edits are done in the order of the command line, after those of --edits. WHAT is a class (balloon), an instance
(balloon#1, as --list names it), a pixel of a training frame (120,64@5), a copy's name, moving or static; several are
joined by +. Vectors are in world units of the run: x right, y up, z towards the cameras.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from semflow.cli import render
from semflow.cli.run_options import choose_scene, note_replacement, require_run
from semflow.utils.errors import ConfigError

BEFORE_AFTER, INSTANCES, EDIT_FILE = "before_after.png", "instances.png", "edits.json"
# option -> (what follows WHAT:, key of the edit, meaning)
OPTIONS = {
    "remove": ("", "", "take it away"),
    "keep": ("", "", "take everything else away, the background too: add +static to keep that"),
    "recolour": ("#RRGGBB", "colour", "another colour, with its own light and shade"),
    "opacity": ("SHARE", "value", "let it be seen through, 0 to 1"),
    "move": ("X,Y,Z", "by", "displace it, world units"),
    "rotate": ("X,Y,Z", "degrees", "turn it about its own centre, degrees about x, then y, then z"),
    "scale": ("FACTOR", "factor", "make it larger or smaller about its own centre"),
    "duplicate": ("NAME:X,Y,Z", "", "show it once more, displaced; other edits can use the name"),
    "delay": ("FRAMES", "frames", "let it do everything some frames later"),
    "speed": ("FACTOR[:FROM]", "factor", ("let it move that much faster; at frame FROM it is as it was (default: 0); "
                                          "negative: backwards (default: beginning with the last frame)")),
    "freeze": ("FRAME", "frame", "hold it at a frame"),
}


class Append(argparse.Action):
    """Collects the options of all operations in one list, in the order of the command line."""

    def __call__(self, parser, namespace, values, option_string=None):
        namespace.operations = [*namespace.operations, (self.const, values)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `semflow edit`: those of `semflow render`, and the edits."""
    render.add_arguments(parser, "RUN/edits/NAME; with --list RUN/edits")
    parser.set_defaults(operations=[], what="rgb")
    edits = parser.add_argument_group("edits")
    for name, (form, _, meaning) in OPTIONS.items():
        metavar = "WHAT" + (f":{form}" if form else "")
        edits.add_argument(f"--{name}", action=Append, const=name, metavar=metavar, help=meaning)
    edits.add_argument("--background", action=Append, const="background", metavar="[RUN:]SCENE",
                       help="show the static field of another scene, of this or another run")
    edits.add_argument("--edits", type=Path, metavar="FILE", help="edit file to replay before the other edits")
    edits.add_argument("--name", default="edit", help="the results go to RUN/edits/NAME (default: edit)")
    edits.add_argument("--list", action="store_true", help="list the instances, with a picture of them, and end")


def run(args: argparse.Namespace) -> int:
    """List the instances, or render with edits and write them beside the pictures.

    Raises:
        SemflowError: a bad option, edit file, run or checkpoint, an edit of what is not there, or no ffmpeg.
    """
    from semflow.tasks.editing.edit_file import checked_edit, read_edits, write_edits

    edits = list(read_edits(args.edits)) if args.edits else []
    edits += [checked_edit(record(name, text), f"--{name} {text}") for name, text in args.operations]
    if not edits and not args.list:
        raise ConfigError("edit: no edits are given; name some, like --remove balloon, or --edits FILE, or see --list")
    wish = render.checked_wish(args)
    require_run(args.run, args.out)
    out = args.out or args.run / "edits" / args.name

    from semflow.engine.loading import load_run
    from semflow.tasks.editing.edited import edited_run, scenery_of
    from semflow.tasks.editing.pictures import before_and_after, instance_picture
    from semflow.viz.video import write_png

    loaded = load_run(args.run, args.device, args.checkpoint, args.set)
    scene = choose_scene(args.scene, loaded.scene_names)
    scenery = scenery_of(loaded, scene)
    if args.list:
        picture = args.out or args.run / "edits"
        print(instance_table(scenery))
        last = loaded.renderer.scenes[scene].frames - 1
        write_png(picture / f"{scene}_{INSTANCES}", instance_picture(scenery, sorted({0, last // 2, last})))
        print(picture / f"{scene}_{INSTANCES}")
        return 0
    edited = edited_run(loaded, scenery, edits, args.device)
    trajectory = wish.trajectory(loaded.cameras(scene))
    note_replacement(out / EDIT_FILE, "edit")
    write_edits(out / EDIT_FILE, edits)
    views = sorted({0, (len(trajectory) - 1) // 2, len(trajectory) - 1})
    write_png(out / BEFORE_AFTER, before_and_after(loaded.renderer, edited.renderer, scene, trajectory, views))
    print(out / EDIT_FILE, out / BEFORE_AFTER, sep="\n")
    render.render_path(edited, scene, wish, out)
    return 0


def record(name: str, text: str) -> dict[str, Any]:
    """The record of an edit file for an option and its value.

    Raises:
        ConfigError: the value has another form.
    """
    if name == "background":
        run, _, scene = text.rpartition(":")
        return {"do": name, "scene": scene} | ({"run": run} if run else {})
    form, key, _ = OPTIONS[name]
    what, *parts = text.split(":")
    most = form.count(":") + bool(form)
    if not most - form.count("[") <= len(parts) <= most:
        raise ConfigError(f"{name} = {text!r}: write it as WHAT{':' if form else ''}{form}")
    found = {"do": name, "what": what.split("+")}
    try:
        if name == "duplicate":
            return found | {"as": parts[0], "by": numbers(parts[1])}
        if name == "recolour":
            return found | {key: colour(parts[0])}
        if name == "speed" and len(parts) > 1:
            found["from"] = float(parts[1])
        return found | ({key: numbers(parts[0]) if "," in form else float(parts[0])} if key else {})
    except ValueError as error:
        raise ConfigError(f"{name} = {text!r}: write it as WHAT:{form}") from error


def numbers(text: str) -> list[float]:
    """Comma-separated numbers, or ValueError."""
    return [float(part) for part in text.split(",")]


def colour(text: str) -> list[float]:
    """`#ff8800` -> three numbers in [0, 1], or ValueError."""
    if not re.fullmatch(r"#?[0-9a-fA-F]{6}", text):
        raise ValueError(text)
    return [round(value / 255, 4) for value in bytes.fromhex(text.removeprefix("#"))]


def instance_table(scenery) -> str:
    """One line per instance: number, name, field, frames, place and size in world units."""
    rows = [f"{'':>4} {'instance':<16}{'field':<9}{'frames':<9}{'centre (middle frame)':<26}size (world units)"]
    for number, item in enumerate(scenery.regions.instances):
        frames = f"{item.frames[0]}-{item.frames[-1]}" if item.frames else "all"
        middle = item.centres[len(item.centres) // 2]
        centre, size = (" ".join(f"{value:7.3f}" for value in values.tolist()) for values in (middle, item.size))
        field = "dynamic" if item.moves else "static"
        rows.append(f"{f'#{number + 1}':>4} {item.name:<16}{field:<9}{frames:<9}{centre:<26}{size}")
    return "\n".join(rows)
