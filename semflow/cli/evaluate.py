"""Evaluate a trained run under a named protocol, beside what mere copying of the training frames scores.

Writes RUN/eval/PROTOCOL/metrics.json, table.txt and an overview picture per scene; with --save also the colours and
labels of every time and camera. Prints the table. --baseline NAME evaluates a 2-D baseline in place of the model: on the
data of a run, into RUN/eval_NAME/PROTOCOL, or, without --run, on those of a configuration given as to `semflow train`
(--config FILE --KEY VALUE ...), into OUT/eval_NAME/PROTOCOL. --pictures FOLDER judges in the same way what another program
has rendered, FOLDER/SCENE/t000_c000_rgb.png and t000_c000_labels.png as --save writes them (NAME is `pictures`). --scene
judges some scenes of a run alone, into a folder of their own beside that of all: RUN/eval_SCENE, RUN/eval_NAME_SCENE.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from semflow.cli.run_options import LABELS_DIR, add_settings, choose_scene, note_replacement, require_run
from semflow.config.parser import parse_arguments
from semflow.config.schema import DataConfig
from semflow.utils.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

    from semflow.engine.scene_truth import FlowTruth
    from semflow.records import SceneData
    from semflow.rendering.view_renderer import ViewRenderer

    MakeRenderer = Callable[[Sequence[SceneData]], ViewRenderer]

PROTOCOL_NAMES = ("paper", "corrected")
BASELINE_NAMES = ("copying", "flow", "depth")


def main(argv: Sequence[str]) -> int:
    """Evaluate what the command line names: a run, or without --run a baseline on the data of a configuration.

    Raises:
        SemflowError: a bad option, run, checkpoint or scene.
    """
    # Imported here: this module and that of the console command import each other.
    from semflow.cli.main import CommandParser

    named = {word.split("=")[0] for word in argv}
    if named & {"--baseline", "--pictures"} and not named & {"--run", "-h", "--help"}:
        config, options = parse_arguments(argv, add_baseline_arguments)
        return evaluate_baseline(options, config.data, config.device, Path(config.out))
    if {"--run", "--config"} <= named:
        raise ConfigError("evaluate: give --run RUN, or the --config FILE and --out FOLDER of a baseline, not both")
    parser = CommandParser(
        prog="semflow evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="semflow evaluate --run RUN [options]\n"
              "       semflow evaluate (--baseline NAME | --pictures FOLDER) --config FILE --out FOLDER [--KEY VALUE ...]")
    add_arguments(parser)
    return run(parser.parse_args(argv))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `semflow evaluate --run RUN`."""
    parser.add_argument("--run", type=Path, required=True, help="run folder (--baseline and --pictures can do without)")
    parser.add_argument("--checkpoint", type=Path, help="checkpoint file (default: the last of the run)")
    add_baseline_arguments(parser)
    parser.add_argument("--scene", nargs="+", metavar="NAME", help="scenes of the run (default: all)")
    parser.add_argument("--data_dir", help="root of the scenes, if it has moved since training")
    parser.add_argument(*LABELS_DIR, help="second root of the labels, if it has moved since training")
    add_settings(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)")


def add_baseline_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that runs and baselines share; the others of a baseline are the keys of a configuration."""
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--baseline", choices=BASELINE_NAMES, help="evaluate this 2-D baseline instead of a model")
    instead.add_argument("--pictures", type=Path, metavar="FOLDER", help="evaluate the pictures in this folder instead of a model")
    parser.add_argument("--protocol", choices=PROTOCOL_NAMES, default="corrected", help="default: %(default)s")
    parser.add_argument("--save", action="store_true", help="write colours and class ids of every time and camera")
    parser.add_argument("--every", type=int, default=1, metavar="N",
                        help="evaluate one in N views of other cameras than that of the time; the others always")
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="write to FOLDER/PROTOCOL instead")


def run(args: argparse.Namespace) -> int:
    """Evaluate the model of a run, or a baseline on its data; print the table and where the files are.

    Raises:
        SemflowError: a bad option, run, checkpoint or scene.
    """
    check_every(args.every)
    # Imported late: help and bad options need none of the engine.
    if args.baseline or args.pictures:
        from semflow.engine.run_folder import RunFolder

        if args.checkpoint or args.set:
            option = f"baseline = {args.baseline}" if args.baseline else f"pictures = {args.pictures}"
            raise ConfigError(f"{option}: is judged without the model; leave out --checkpoint and --set")
        data = data_of_run(RunFolder(args.run).config().data, args)
        return evaluate_baseline(args, data, args.device, args.run, args.scene or ())
    from semflow.engine.loading import load_run
    from semflow.engine.scenes import require_same_scene

    require_run(args.run, args.into, "--into")
    loaded = load_run(args.run, args.device, args.checkpoint, args.set)
    data = data_of_run(loaded.config.data, args)

    def renderer_of(scenes: Sequence[SceneData]) -> ViewRenderer:
        for scene in scenes:
            require_same_scene(loaded.scenes[scene.name], scene, data.dir)
        return loaded.renderer

    out = args.into or args.run / "_".join(["eval", *(args.scene or [])])
    return evaluate_renderer(renderer_of, args, data, args.device, out, loaded.identity)


def check_every(every: int) -> None:
    """Refuse an --every below 1 with a ConfigError, before anything is read."""
    if every < 1:
        raise ConfigError(f"every = {every}: must be at least 1")


def evaluate_baseline(args: argparse.Namespace, data: DataConfig, device: str, run: Path, chosen: Sequence[str] = ()) -> int:
    """Evaluate `args.baseline` or `args.pictures`, by default beside the evaluation of the model in the folder `run`, which
    stays as it is.

    Args:
        chosen: names of the scenes, where not all of the run are judged.
    """
    check_every(args.every)
    from semflow.engine.baselines import build_baseline
    from semflow.engine.given_views import GivenViews

    def renderer_of(scenes: Sequence[SceneData]) -> ViewRenderer:
        named = {scene.name: scene for scene in scenes}
        return build_baseline(args.baseline, named) if args.baseline else GivenViews(args.pictures, named)

    out = args.into or run / "_".join(["eval", args.baseline or "pictures", *chosen])
    evaluated = {"baseline": args.baseline} if args.baseline else {"pictures": str(args.pictures)}
    return evaluate_renderer(renderer_of, args, data, device, out, evaluated)


def evaluate_renderer(
    make_renderer: MakeRenderer, args: argparse.Namespace, data: DataConfig, device: str, out: Path, evaluated: dict
) -> int:
    """Evaluate a renderer, print the table and where the files are.

    Args:
        make_renderer: gives the renderer of the scenes, whose labels are those that training was given.
        args: protocol, save and every. data: the scenes. device: where. out: evaluation folder.
        evaluated: what the renderer is, for metrics.json.
    """
    from semflow.data.frame_lists import parse_frames
    from semflow.engine.evaluator import evaluate
    from semflow.engine.protocols import find_protocol

    scenes, truth_labels = load_scenes(data, device)
    renderer = make_renderer(scenes)
    note_replacement(out / args.protocol / "metrics.json", "evaluation")
    result = evaluate(
        renderer, scenes, out, find_protocol(args.protocol), save=args.save, truth_labels=truth_labels,
        color_frames={s.name: parse_frames(data.color_frames, s.frames, "data.color_frames") for s in scenes},
        truth_flow=find_true_motion(data, scenes), every=args.every, evaluated=evaluated,
    )
    print(result.table)
    print(f"written: {result.folder / 'metrics.json'}, table.txt and, per scene, overview.png" + (
        " and t000_c000_rgb.png, t000_c000_labels.png, …" if args.save else ""))
    return 0


def find_true_motion(data: DataConfig, scenes: Sequence[SceneData]) -> dict[str, FlowTruth]:
    """The true motion of the scenes that `semflow make-scene` has made, by name."""
    from functools import partial

    from semflow.data.synthetic.tracks import find_scene, true_motion

    found = {}
    for scene in scenes:
        try:
            made = find_scene(Path(data.dir) / scene.name)
        except DataError as error:
            print(f"the motion is not judged: {error}")
            continue
        if made is not None:
            found[scene.name] = partial(true_motion, made, height=scene.height, width=scene.width)
    return found


def data_of_run(data: DataConfig, args: argparse.Namespace) -> DataConfig:
    """The data settings of a run, with roots that have moved and the scenes that are to be judged.

    Raises:
        ConfigError: the run has no such scene.
    """
    scenes = tuple(choose_scene(name, data.scenes) for name in dict.fromkeys(args.scene or data.scenes))
    return replace(moved_data(data, args.data_dir, args.labels_dir), scenes=scenes)


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
