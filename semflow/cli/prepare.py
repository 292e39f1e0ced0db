"""Make a scene from your own video: frames, cameras, optical flow, motion masks and inverse depth.

Cameras are found by structure from motion (COLMAP, through pycolmap: pip install -e ".[prepare]"), unless they are given. The
camera must move, and what stands still must fill most of the image. Flow is OpenCV's DIS; what moves is what no point at rest
explains; what stands still is triangulated. One camera cannot tell how far away a moving thing is: it is taken to stand on
what is below it. docs/own_video.md says how to film, how good all of it is, and how to put in better maps. On two cores
12 frames of 960x540 take less than two minutes.

    semflow prepare video.mp4 --root data/mine --scene Street --label-moving
"""

from __future__ import annotations

import argparse
from pathlib import Path

LAPTOP_HEIGHT = 135  # of the frames that configs/laptop.txt is made for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `semflow prepare`."""
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a video, or a folder of frames (png, jpg) in the order of their names")
    parser.add_argument("--root", type=Path, default=Path("data/mine"), help="data root (default: %(default)s)")
    parser.add_argument("--scene", required=True, metavar="NAME", help="folder of the scene in the root")
    parser.add_argument("--overwrite", action="store_true", help="move an old folder of that name aside")
    group = parser.add_argument_group("frames", "Of frames close to each other the sharpest is taken.")
    group.add_argument("--frames", type=int, metavar="N", help="how many, evenly spaced (default: 24 of a video, all of a folder)")
    group.add_argument("--start", type=float, default=0.0, metavar="S", help="from this second of a video, or this image of a folder (default: 0)")
    group.add_argument("--end", type=float, metavar="S", help="to there (default: the end)")
    group.add_argument("--height", type=int, default=540, metavar="PIXELS", help="larger frames are reduced to it (default: %(default)s)")
    group = parser.add_argument_group("cameras")
    group.add_argument("--focal", type=float, metavar="PIXELS", help="focal length in pixels of the frames as they are in SOURCE, if you know it (default: found)")
    group.add_argument("--straight", action="store_true", help="straight lines are straight: the frames were undistorted or rendered (default: one coefficient of distortion is found)")
    group.add_argument("--colmap", type=Path, metavar="FOLDER", help="a sparse model of COLMAP, with the images of the folder SOURCE, in place of finding cameras")
    group.add_argument("--poses", type=Path, metavar="FILE", help="an LLFF poses_bounds.npy of the images of the folder SOURCE, which are straight, in place of finding cameras")
    group = parser.add_argument_group("maps")
    group.add_argument("--raft-weights", type=Path, metavar="FILE", help="optical flow by torchvision's raft_large with these weights (default: DIS)")
    group.add_argument("--device", default="auto", help="for RAFT: auto, cpu, cuda, cuda:N or mps (default: %(default)s)")
    group.add_argument("--label-moving", action="store_true", help="also make labels of two classes, background and moving, from the motion masks")


def run(args: argparse.Namespace) -> int:
    """Make the scene, draw what was found, and say how to go on; 0."""
    from semflow.config.schema import DataConfig
    from semflow.data.check import check_scene
    from semflow.data.loader import load_scene
    from semflow.data.prepare import PrepareSettings, prepare_scene
    from semflow.utils.device import resolve_device
    from semflow.viz.prepared import prepared_picture
    from semflow.viz.video import write_png

    options = {name: value for name, value in vars(args).items() if name != "device"}
    folder = prepare_scene(PrepareSettings(**options, device=resolve_device(args.device)))
    config = DataConfig(dir=str(args.root), scenes=(args.scene,), factor=1)
    scene = load_scene(config, args.scene)
    picture = folder / "prepared.png"
    write_png(picture, prepared_picture(scene))
    factor = max(1, round(scene.height / LAPTOP_HEIGHT))
    print(f"{check_scene(config, args.scene).summary}\nlook at {picture} before you train: frames, what moves, flow and inverse depth")
    print(f"train: semflow train --config configs/laptop.txt --data_dir {args.root} --scene {args.scene} "
          f"--data.factor {factor} --out runs/{args.scene}")
    return 0
