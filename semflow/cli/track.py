"""Track points densely: where what pixels show is at every time, by the flow of a trained run.

Pixels are given with their time (--pixel 60,42@0, from 0, the upper left one is 0,0) or as the mask of a class that is
rendered at a time (--class ball@0); both may be repeated. Without either, what moves of each class at time 0 is tracked.
The points are watched by the camera of each time, or by one --camera throughout.

Writes tracks.npz (start (P,), uv (P, T, 2), visible (P, T), points_world (P, T, 3), moving (P,), cameras (T,)),
points/0000.png, …, points.mp4, sheet.png (some times beside each other) and trails.png to RUN/tracks/SCENE. With --score
also scores.json: pixels of the first labelled frame against true tracks, where the scene was made by semflow make-scene,
and its masks carried to the later frames against their labels; beside the same by chained optical flow, and unmoved.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from semflow.cli.run_options import LABELS_DIR, add_run_options, choose_scene, note_replacement, require_run
from semflow.utils.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from semflow.engine.loading import LoadedRun
    from semflow.tasks.tracking import Tracker, Tracks

SHEET_TILES = 4
FPS = 4.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `semflow track`."""
    add_run_options(parser)
    parser.add_argument("--pixel", action="append", default=[], metavar="X,Y@T", help="track this pixel of time T")
    parser.add_argument("--class", action="append", default=[], dest="classes", metavar="NAME@T",
                        help="track the pixels that are rendered as this class at time T")
    parser.add_argument("--grid", type=int, default=3, metavar="STEP",
                        help="of a class, or of all that moves, one pixel in STEP x STEP (default: %(default)s)")
    parser.add_argument("--camera", type=int, help="training camera that watches (default: at every time its own)")
    parser.add_argument("--over", choices=("rendered", "frames"), default="rendered",
                        help="draw over what the model renders, or over the frames (default: %(default)s)")
    parser.add_argument("--score", action="store_true", help="score tracks of the first labelled frame; reads the scene")
    parser.add_argument("--data_dir", help="root of the scenes for --score, if it has moved since training")
    parser.add_argument(*LABELS_DIR, help="second root of the labels, if it has moved since training")
    parser.add_argument("--out", type=Path, help="output folder (default: RUN/tracks/SCENE)")


def run(args: argparse.Namespace) -> int:
    """Track, draw and, where asked for, score.

    Raises:
        SemflowError: a bad option, run or checkpoint, or no ffmpeg.
    """
    check_options(args)
    require_run(args.run, args.out)
    # Imported late: help and bad options need none of the engine.
    import numpy as np

    from semflow.engine.loading import load_run
    from semflow.tasks.tracking import Tracker, joined_tracks, save_tracks
    from semflow.viz.tracks import gradient_colors
    from semflow.viz.video import require_ffmpeg

    require_ffmpeg()
    loaded = load_run(args.run, args.device, args.checkpoint, args.set)
    scene = choose_scene(args.scene, loaded.scene_names)
    tracker = Tracker(loaded.renderer, scene, args.camera)
    groups = start_points(args, loaded, tracker)
    tracks = joined_tracks([tracker.track(start, uv) for start, uv in groups])
    out = args.out or args.run / "tracks" / scene
    note_replacement(out / "tracks.npz", "tracks")
    save_tracks(out / "tracks.npz", tracks, tracker.watching)
    draw(tracker, tracks, np.concatenate([gradient_colors(uv) for _, uv in groups]), args.over, out)
    print(f"{len(tracks)} points: {out / 'tracks.npz'}, points.mp4, sheet.png, trails.png")
    if args.score:
        score(args, loaded, tracker, out)
    return 0


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that do not go together with a ConfigError."""
    if args.grid < 1:
        raise ConfigError(f"grid = {args.grid}: must be at least 1")
    if args.camera is not None and args.score:
        raise ConfigError("score: labels and flow belong to the camera of each time; leave out --camera")
    if args.camera is not None and args.over == "frames":
        raise ConfigError("over = frames: a frame shows what its own camera sees; leave out --camera")


def start_points(args: argparse.Namespace, loaded: LoadedRun, tracker: Tracker) -> list[tuple[int, Tensor]]:
    """Groups of points that share a gradient of colours, as (time, pixels (P, 2)): the pixels of a time, or a mask.

    Raises:
        ConfigError: not of that form, outside, an unknown class, or a mask without a pixel.
    """
    from semflow.tasks.tracking import MOVING_SHARE, grid_pixels

    label_map = loaded.label_map(tracker.scene)
    groups = pixel_groups(args.pixel, tracker)
    for text in args.classes:
        name, time = matched(r"(.+)@(\d+)", text, "class", "NAME@T, e.g. ball@0")
        if name not in label_map.names:
            raise ConfigError(f"class = {text!r}: the classes are {', '.join(label_map.names)}")
        time = known_time(int(time), tracker, f"class = {text!r}")
        groups.append((time, grid_pixels(tracker.view(time).labels == label_map.names.index(name), args.grid)))
    if not groups:
        view = tracker.view(0)
        moving = view.dynamic_opacity > MOVING_SHARE
        groups = [(0, grid_pixels(moving & (view.labels == identity), args.grid)) for identity in label_map.foreground]
    groups = [(time, uv) for time, uv in groups if len(uv)]
    if not groups:
        raise ConfigError("nothing to track: the masks hold no pixel; choose another --class or time, or a smaller --grid")
    return groups


def pixel_groups(texts: list[str], tracker: Tracker) -> list[tuple[int, Tensor]]:
    """The centres of the pixels X,Y@T, those of a time together."""
    import torch

    cameras, found = tracker.cameras, {}
    for text in texts:
        x, y, time = (int(word) for word in matched(r"(\d+),(\d+)@(\d+)", text, "pixel", "X,Y@T, e.g. 60,42@0"))
        if x >= cameras.width or y >= cameras.height:
            raise ConfigError(f"pixel = {text!r}: outside the image of {cameras.width}x{cameras.height}")
        found.setdefault(known_time(time, tracker, f"pixel = {text!r}"), []).append((x + 0.5, y + 0.5))
    return [(time, torch.tensor(uv, device=cameras.c2w.device)) for time, uv in found.items()]


def matched(pattern: str, text: str, option: str, form: str) -> tuple[str, ...]:
    """The parts of an option's text; ConfigError if it has another form."""
    match = re.fullmatch(pattern, text.strip())
    if match is None:
        raise ConfigError(f"{option} = {text!r}: write it as {form}")
    return match.groups()


def known_time(time: int, tracker: Tracker, where: str) -> int:
    """The time, if the scene has it; else a ConfigError."""
    if time >= tracker.frames:
        raise ConfigError(f"{where}: the scene has the times 0 to {tracker.frames - 1}")
    return time


def draw(tracker: Tracker, tracks: Tracks, colors: np.ndarray, over: str, out: Path) -> None:
    """Write the pictures and the video; colors (P, 3) uint8."""
    import torch

    from semflow.viz.colors import color_rgb
    from semflow.viz.panels import side_by_side
    from semflow.viz.tracks import draw_points, draw_trails
    from semflow.viz.video import write_png, write_video

    times = range(tracker.frames)
    under = [color_rgb(tracker.view(t).rgb if over == "rendered" else tracker.context.rgb[t]) for t in times]
    pictures = [draw_points(under[t], tracks.uv[:, t], tracks.visible[:, t], colors) for t in times]
    for time, picture in zip(times, pictures):
        write_png(out / "points" / f"{time:04d}.png", picture)
    write_video(out / "points.mp4", pictures, FPS)
    chosen = sorted({int(tracks.start.min()), *torch.linspace(0, times[-1], SHEET_TILES).round().int().tolist()})
    write_png(out / "sheet.png", side_by_side([(f"t={t}", pictures[t]) for t in chosen], columns=2))
    write_png(out / "trails.png", draw_trails(under[-1], tracks.uv, tracks.visible, colors))


def score(args: argparse.Namespace, loaded: LoadedRun, tracker: Tracker, out: Path) -> None:
    """Score, print the table and write scores.json."""
    from semflow.cli.evaluate import load_scenes, moved_data
    from semflow.data.synthetic.tracks import find_scene, true_tracks
    from semflow.engine.copying import labelled_frames
    from semflow.engine.scenes import require_same_scene
    from semflow.tasks.track_scores import format_scores, score_tracks
    from semflow.utils.files import write_json

    data = moved_data(loaded.config.data, args.data_dir, args.labels_dir)
    scenes, truth_labels = load_scenes(data, args.device)
    scene = next(scene for scene in scenes if scene.name == tracker.scene)
    require_same_scene(loaded.scenes[scene.name], scene, data.dir, same_size=True)  # tracks are in pixels of the run
    start = (*labelled_frames(scene.labels), 0)[0]
    made = find_scene(Path(data.dir) / scene.name)
    truth = None if made is None else true_tracks(made, start, tracker.watching, scene.height, scene.width)
    scores = score_tracks(tracker, scene, truth_labels[scene.name], start, truth)
    write_json(out / "scores.json", {"start": start, "scores": scores})
    print(f"pixels and masks of frame {start}:\n{format_scores(scores)}\nwritten: {out / 'scores.json'}")
