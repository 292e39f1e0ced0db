"""Render novel-view videos of a trained run: colours, semantics, depth, flow and more, along a camera path."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

from semflow.cli.run_options import add_run_options, choose_scene, require_run
from semflow.geometry.cameras import Cameras
from semflow.geometry.trajectories import PATHS, Trajectory, make_trajectory
from semflow.rendering.view_renderer import ViewRenderer
from semflow.utils.errors import ConfigError
from semflow.utils.ranks import any_rank, own_part, rank
from semflow.viz.flow_wheel import flow_scale
from semflow.viz.panels import side_by_side
from semflow.viz.pictures import PICTURES, Palette, parse_pictures, renderer_needs
from semflow.viz.video import read_png, require_ffmpeg, write_png, write_video

PROBE_WIDTH = 96  # pixels: width of the small views that fix the scale of the flow colours
PROBE_VIEWS = 4
SIDE_BY_SIDE = "side_by_side"
MAX_COLUMNS = 4
MOST_FPS = 1000


def add_arguments(parser: argparse.ArgumentParser, out: str = "RUN/renders/SCENE_PATH") -> None:
    """Declare the options of `semflow render`; `out` says where the pictures go by default."""
    add_run_options(parser)
    parser.add_argument("--path", default="novel", help=f"camera path: {', '.join(PATHS)} (default: novel)")
    parser.add_argument("--what", default="rgb,semantic,depth",
                        help=f"comma-separated pictures: {', '.join(PICTURES)} (default: %(default)s)")
    parser.add_argument("--side-by-side", action="store_true", help="also write all pictures beside each other")
    parser.add_argument("--frames", type=int, default=48, help="views along the path (default: 48)")
    parser.add_argument("--fps", type=float, default=12.0, help="frames per second of the videos (default: 12)")
    parser.add_argument("--size", help="size of the pictures as WxH (default: as trained)")
    parser.add_argument("--time", type=float, help="hold the time at this fractional frame (default: the time runs)")
    parser.add_argument("--camera", type=int, help="camera of fixed-view (default: 0) and dolly (default: the average)")
    parser.add_argument("--out", type=Path, help=f"output folder (default: {out})")


def run(args: argparse.Namespace) -> int:
    """Render the path and write PNGs and videos.

    Raises:
        SemflowError: a bad option, run or checkpoint, or no ffmpeg.
    """
    # Imported late: the other options' help and errors need none of the engine.
    from semflow.engine.loading import load_run

    wish = checked_wish(args)
    require_run(args.run, args.out)
    loaded = load_run(args.run, args.device, args.checkpoint, args.set)
    scene = choose_scene(args.scene, loaded.scene_names)
    render_path(loaded, scene, wish, args.out or args.run / "renders" / f"{scene}_{args.path}")
    return 0


@dataclass(frozen=True)
class Wish:
    """What the command line asks to be rendered, checked as far as that can be done without a run.

    Attributes:
        names: pictures. size: (width, height) or None. path, frames, time, camera: see `make_trajectory`.
        fps: of the videos. beside: also all pictures beside each other.
    """

    names: tuple[str, ...]
    size: tuple[int, int] | None
    path: str
    frames: int
    time: float | None
    camera: int | None
    fps: float
    beside: bool

    @property
    def written(self) -> tuple[str, ...]:
        """Names of the pictures and videos."""
        return self.names + ((SIDE_BY_SIDE,) if self.beside else ())

    def trajectory(self, cameras: Cameras) -> Trajectory:
        """The views around the training cameras."""
        found = make_trajectory(self.path, cameras, self.frames, self.time, self.camera)
        if self.size is None:
            return found
        return replace(found, cameras=found.cameras.resized(self.size[1], self.size[0]))


def checked_wish(args: argparse.Namespace) -> Wish:
    """What the options of `add_arguments` ask for.

    Raises:
        SemflowError: a bad option, or no ffmpeg.
    """
    names, size = parse_pictures(args.what), parse_size(args.size)
    if not 0 < args.fps <= MOST_FPS:
        raise ConfigError(f"fps = {args.fps:g}: must be positive, and {MOST_FPS} at most")
    require_ffmpeg()
    return Wish(names, size, args.path, args.frames, args.time, args.camera, args.fps, args.side_by_side)


def render_path(loaded, scene: str, wish: Wish, out: Path) -> None:
    """Render the views of a path of a loaded run; writes PNGs and videos to `out`."""
    trajectory = wish.trajectory(loaded.cameras(scene))
    earlier = [name for name in wish.written if (out / f"{name}.mp4").exists()]
    if earlier:
        print(f"replacing the earlier {', '.join(earlier)} in {out}")
    palette = make_palette(loaded, scene, trajectory, with_flow="flow" in wish.names)
    render_pictures(loaded.renderer, scene, trajectory, wish.names, palette, out, wish.beside)
    any_rank(False)  # wait for the pictures of the others
    for name in () if rank() else wish.written:
        files = [picture_path(out, name, i) for i in range(len(trajectory))]
        write_video(out / f"{name}.mp4", map(read_png, files), wish.fps)
        older = len(set((out / name).glob("[0-9]*.png")) - set(files))
        print(f"{out / name}.mp4" + (f" ({older} older pictures of a longer path left in {name}/)" if older else ""))


def parse_size(text: str | None) -> tuple[int, int] | None:
    """(width, height) from "WxH"; None for None.

    Raises:
        ConfigError: not of that form, or a zero.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d*)[xX×]([1-9]\d*)", text.strip())
    if match is None:
        raise ConfigError(f"size = {text!r}: write it as WIDTHxHEIGHT in pixels, e.g. 480x270")
    return int(match[1]), int(match[2])


def make_palette(loaded, scene: str, trajectory: Trajectory, with_flow: bool) -> Palette:
    """Colour scales for all views of a path, the flow's measured on a few small views."""
    cameras = trajectory.cameras
    palette = Palette(loaded.label_map(scene), float(cameras.near.min()), float(cameras.far.max()))
    if not with_flow:
        return palette
    small = cameras.narrowed(PROBE_WIDTH)
    flows = []
    for i in torch.linspace(0, len(trajectory) - 1, min(PROBE_VIEWS, len(trajectory))).long().tolist():
        with torch.no_grad():
            flow = loaded.renderer.render(scene, small, i, float(trajectory.times[i]), frozenset({"flow"})).flow
        flows += [] if flow is None else [flow_scale(flow)]
    return replace(palette, flow_scale=max(flows) * cameras.width / small.width) if flows else palette


def picture_path(out: Path, name: str, index: int) -> Path:
    """Where picture `name` of view `index` is written."""
    return out / name / f"{index:04d}.png"


def render_pictures(
    renderer: ViewRenderer, scene: str, trajectory: Trajectory, names: tuple[str, ...], palette: Palette, out: Path,
    beside: bool,
) -> None:
    """Render every view of the path once and write its pictures; `beside` adds them beside each other.

    Several ranks share the views.
    """
    needs = renderer_needs(names)
    for i in tqdm(own_part(range(len(trajectory))), desc=f"rendering {scene}", unit="view", disable=rank() > 0):
        time = float(trajectory.times[i])
        with torch.no_grad():
            view = renderer.render(scene, trajectory.cameras, i, time, needs)
        pictures = {name: palette.draw(name, view) for name in names}
        if beside:
            rows = -(-len(names) // MAX_COLUMNS)
            tiles = [(f"{name}  t={time:.2f}", image) for name, image in pictures.items()]
            pictures[SIDE_BY_SIDE] = side_by_side(tiles, columns=-(-len(names) // rows))
        for name, image in pictures.items():
            write_png(picture_path(out, name, i), image)
