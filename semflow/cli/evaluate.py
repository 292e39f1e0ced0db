"""Evaluate a trained run under a named protocol, beside what mere copying of the training frames scores.

Writes RUN/eval/PROTOCOL/metrics.json, table.txt and an overview picture per scene; with --save also the colours and
labels of every time and camera. Prints the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from semflow.config.schema import DataConfig
from semflow.utils.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from semflow.records import SceneData

PROTOCOL_NAMES = ("paper", "corrected")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `semflow evaluate`."""
    parser.add_argument("--run", type=Path, required=True, help="run folder")
    parser.add_argument("--checkpoint", type=Path, help="checkpoint file (default: the last of the run)")
    parser.add_argument("--protocol", choices=PROTOCOL_NAMES, default="corrected", help="default: %(default)s")
    parser.add_argument("--save", action="store_true", help="write colours and class ids of every time and camera")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="evaluate one in N (time, camera) pairs")
    parser.add_argument("--data_dir", help="root of the scenes, if it has moved since training")
    parser.add_argument("--labels_dir", help="second root of the labels, if it has moved since training")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="render otherwise than the run says, e.g. render.samples=96; may be given several times")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the table and where the files are.

    Raises:
        SemflowError: a bad option, run, checkpoint or scene.
    """
    if args.every < 1:
        raise ConfigError(f"every = {args.every}: must be at least 1")
    # Imported late: help and bad options need none of the engine.
    from semflow.data.frame_lists import parse_frames
    from semflow.engine.evaluator import evaluate
    from semflow.engine.loading import load_run
    from semflow.engine.protocols import find_protocol

    loaded = load_run(args.run, args.device, args.checkpoint, args.set)
    data = moved_data(loaded.config.data, args.data_dir, args.labels_dir)
    scenes, truth_labels = load_scenes(data, args.device)
    out = args.run / "eval"
    if (out / args.protocol / "metrics.json").exists():
        print(f"replacing the earlier evaluation in {out / args.protocol}")
    result = evaluate(
        loaded.renderer, scenes, out, find_protocol(args.protocol), save=args.save, truth_labels=truth_labels,
        color_frames={s.name: parse_frames(data.color_frames, s.frames, "data.color_frames") for s in scenes},
        every=args.every,
    )
    print(result.table)
    print(f"written: {result.folder / 'metrics.json'}, table.txt and, per scene, overview.png" + (
        " and t000_c000_rgb.png, t000_c000_labels.png, …" if args.save else ""))
    return 0


def moved_data(data: DataConfig, data_dir: str | None, labels_dir: str | None) -> DataConfig:
    """The data settings of the run with roots that have moved."""
    return replace(data, dir=data_dir or data.dir, labels_dir=labels_dir or data.labels_dir)


def load_scenes(data: DataConfig, device: str) -> tuple[Sequence[SceneData], dict[str, Tensor]]:
    """The scenes with the labels that training was given, and the labels of all their frames as truth by scene name.

    Raises:
        DataError: a broken file, also among the labels that training was not given.
    """
    import torch

    from semflow.data.frame_lists import parse_frames
    from semflow.data.loader import load_scene
    from semflow.utils.device import resolve_device

    scenes, truth_labels = [], {}
    for name in data.scenes:
        scene = load_scene(replace(data, labelled_frames="all"), name, resolve_device(device))
        given = list(parse_frames(data.labelled_frames, scene.frames, "data.labelled_frames"))
        labels = torch.full_like(scene.labels, -1)
        labels[given] = scene.labels[given]
        scenes.append(replace(scene, labels=labels))
        truth_labels[name] = scene.labels
    return scenes, truth_labels
