"""Measure training steps, their stages, memory, rendering and time to quality, beside a matrix product.

Times are given in seconds and in products (of two 2048x2048 float32 matrices, timed in the same moment), so that
figures can be compared between machines. Only the case quality reads data; the others make random scenes.

Cases: static, dynamic (a training step); stages (where its time goes); render (frames: RGB, semantics, both); encode;
sweep (the dynamic step against rays, samples, frames, scenes and classes); quality (metrics over training time).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from semflow.utils.errors import ConfigError, SemflowError

if TYPE_CHECKING:
    from semflow.config.schema import Config
    from semflow.engine.benchmark import BenchmarkSettings
    from semflow.engine.benchmark_quality import Quality
    from semflow.engine.benchmark_report import Part

CASE_NAMES = ("static", "dynamic", "stages", "render", "encode", "sweep", "quality")
PARTS_OF = {"stages": ("stages-static", "stages-dynamic"), "render": ("render-rgb", "render-semantic", "render")}
FAST_CONFIG = Path(__file__).resolve().parents[2] / "configs" / "balloon.txt"
LOWEST = {"rays": 2, "samples": 2, "height": 16, "width": 16, "frames": 3, "classes": 2, "scenes": 1, "repeats": 1,
          "threads": 0, "every": 1}


@dataclass(frozen=True)
class Preset:
    """Sizes that have a name (None: as the configuration says), and what is measured of them by default."""

    height: int
    width: int
    cases: tuple[str, ...]
    rays: int | None = None
    samples: int | None = None
    recompute: bool | None = None


PRESETS = {
    "published": Preset(270, 480, ("static", "dynamic", "stages", "render", "encode"), 1024, 64, recompute=True),
    "small": Preset(135, 240, ("static", "dynamic"), 128, 32),
    "fast": Preset(135, 240, ("static", "dynamic", "stages", "render", "encode", "sweep")),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `semflow benchmark`."""
    add_sizes(parser)
    add_quality(parser)
    group = parser.add_argument_group("records and plots")
    group.add_argument("--json", type=Path, metavar="FILE", help="also write everything to FILE")
    group.add_argument("--read", type=Path, nargs="+", metavar="FILE", help="measure nothing: show these records instead")
    group.add_argument("--compare", type=Path, metavar="OLD", help="compare with an older record, in products")
    group.add_argument("--plots", type=Path, metavar="FOLDER", help="draw benchmark_stages.png, benchmark_sweeps.png and "
                       'benchmark_quality.png there (pip install -e ".[plots]")')


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """Options on what is measured."""
    parser.add_argument("--preset", default="published", metavar="LIST",
                        help="sizes, one or several: published (1024 x 64 at 480x270), small (128 x 32 at 240x135), fast "
                             "(the demo's configuration at 240x135); default: %(default)s. The options below override it")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration file (default: the published model; "
                        "for --preset fast configs/balloon.txt); its rays and samples count unless they are given here")
    parser.add_argument("--cases", metavar="LIST",
                        help=f"some of {', '.join(CASE_NAMES)} (default: those of the preset, static and dynamic for small, "
                             "all but quality for fast)")
    for name, meaning in (("rays", "per step"), ("samples", "per ray, in training"), ("height", "of the frames"),
                          ("width", "of the frames")):
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"{name} {meaning}")
    for name, default in (("frames", 12), ("classes", 6), ("scenes", 1)):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help="default: %(default)s")
    parser.add_argument("--sweep", nargs="+", action="extend", default=[], metavar="AXIS=N,N,…",
                        help="case sweep on these values, as in rays=256,512, not on a small grid around the preset")
    parser.add_argument("--render-size", default="480x270", metavar="WxH", help="of rendered frames (default: %(default)s)")
    parser.add_argument("--run", type=Path, help="render this trained run instead of random networks")
    parser.add_argument("--repeats", type=int, default=5, metavar="N",
                        help="timed steps, after one untimed; stages: half as many, frames and clips: a tenth "
                             "(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads (default: torch's choice)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)")
    parser.add_argument("--recompute", action=argparse.BooleanOptionalAction, help="as train.recompute; published: on")
    for name in ("compile", "bf16", "tf32", "cuda-graphs"):
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=f"as train.{name.replace('-', '_')}")
    parser.add_argument("--skip-encoding", action=argparse.BooleanOptionalAction,
                        help="leave out the case encode (default: for the published preset on a CPU)")


def add_quality(parser: argparse.ArgumentParser) -> None:
    """Options of the case quality."""
    group = parser.add_argument_group("quality", "Trains for given times and evaluates under the protocol `corrected`; a "
                                      "repeated call goes on where it stopped.")
    group.add_argument("--data_dir", metavar="ROOT", help="root of the scenes (default: of the configuration)")
    group.add_argument("--scene", nargs="+", action="extend", metavar="NAME", help="scenes (default: of the configuration)")
    group.add_argument("--minutes", default="1,2,4,6,8,10", metavar="LIST", help="of training (default: %(default)s)")
    group.add_argument("--every", type=int, default=4, metavar="N",
                       help="evaluate one in N views of other cameras than that of the time (default: %(default)s)")
    group.add_argument("--along", action="store_true",
                       help="checkpoints along one run of the longest time, instead of a whole run per time")
    group.add_argument("--out", type=Path, default=Path("runs/quality"), help="folder of the runs (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Measure or read, print the tables, write the record, compare, draw.

    Raises:
        SemflowError: a bad option or configuration, a device or a package that is not there, too little memory.
    """
    presets = checked(args)
    # Imported late: help and bad options need none of the engine.
    from semflow.engine.benchmark_compare import compare
    from semflow.engine.benchmark_report import format_record, make_record, read_record
    from semflow.utils.files import write_json
    from semflow.viz.benchmark_plots import draw_plots, require_matplotlib

    if args.plots is not None:
        require_matplotlib()  # before minutes of measuring
    old = read_record(args.compare) if args.compare else None
    parts = [] if args.read else [measure_part(args, preset) for preset in presets]
    records = [read_record(path) for path in args.read] if args.read else [make_record(parts)]
    print("\n\n".join(format_record(record) for record in records))
    if args.json is not None:
        write_json(args.json, records[0])
        print(f"written: {args.json}")
    for record in records if old else ():
        print(f"\n{compare(old, record)}")
    if args.plots is not None:
        for path in draw_plots(records, args.plots):
            print(f"drawn: {path}")
    failures = [failure for part in parts for failure in part.failures]
    if failures:
        raise SemflowError(f"{len(failures)} case(s) could not be measured, the first: {failures[0]}")
    return 0


def checked(args: argparse.Namespace) -> list[str]:
    """The presets asked for, once all options are known to be usable."""
    for name, low in LOWEST.items():
        value = getattr(args, name)
        if value is not None and value < low:
            raise ConfigError(f"{name} = {value}: must be at least {low}")
    presets, cases = words(args.preset, "preset", tuple(PRESETS)), words(args.cases or "", "cases", CASE_NAMES)
    minutes(args)
    render_size(args)
    if not presets:
        raise ConfigError(f"preset = {args.preset!r}: name some of {', '.join(PRESETS)}")
    if args.cases and not cases:
        raise ConfigError(f"cases = {args.cases!r}: name some of {', '.join(CASE_NAMES)}")
    if args.config and len(presets) > 1:
        raise ConfigError(f"preset = {args.preset}: a --config goes with one preset")
    if args.sweep and cases and "sweep" not in cases:
        raise ConfigError(f"cases = {args.cases}: --sweep needs the case sweep")
    if args.read and args.json:
        raise ConfigError(f"json = {args.json}: nothing is measured with --read; leave out one of the two")
    if args.json is not None and args.json.exists():
        raise ConfigError(f"json = {args.json}: the file exists; name another or remove it")
    return presets


def words(text: str, name: str, known: tuple[str, ...]) -> list[str]:
    """The items of a list, all of them known."""
    found = [word.strip() for word in text.split(",") if word.strip()]
    unknown = [word for word in found if word not in known]
    if unknown:
        raise ConfigError(f"{name} = {text}: {unknown[0]!r} is none of {', '.join(known)}")
    return found


def minutes(args: argparse.Namespace) -> tuple[float, ...]:
    """Training times, rising."""
    try:
        found = tuple(sorted({float(word) for word in args.minutes.split(",")}))
    except ValueError:
        found = ()
    if not found or not 0 < found[0] <= found[-1] < float("inf"):
        raise ConfigError(f"minutes = {args.minutes}: write times above 0, as in 1,2,4")
    return found


def render_size(args: argparse.Namespace) -> tuple[int, int]:
    """Height and width of rendered frames."""
    width, _, height = args.render_size.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise ConfigError(f"render-size = {args.render_size}: write WIDTHxHEIGHT, as in 480x270")
    return int(height), int(width)


def measure_part(args: argparse.Namespace, name: str) -> Part:
    """All cases of one preset; what cannot be measured, as where memory runs out, is noted and the others go on."""
    from semflow.engine import benchmark
    from semflow.engine.benchmark_report import Part, load_average
    from semflow.engine.benchmark_sweep import default_sweeps, measure_sweeps, parse_sweeps
    from semflow.utils.memory import shortage_as_error

    settings = settings_of(args, PRESETS[name], sized_config(args, name))
    sweeps = parse_sweeps(args.sweep, settings) or default_sweeps(settings)
    part = Part(args.config.stem if args.config else name, settings, load_average())

    def attempt(settings: BenchmarkSettings, case: str):
        try:
            with shortage_as_error("there is not enough memory; take fewer --rays, --samples or --frames"):
                return benchmark.measure(settings, case)
        except SemflowError as error:
            part.failures.append(f"{case}: {error}")
            return None

    for case in (one for case in cases_of(args, name) for one in PARTS_OF.get(case, (case,))):
        if case == "sweep":
            part.sweeps.update(measure_sweeps(settings, sweeps, attempt, say))
        elif case == "quality":
            part = replace(part, quality=quality(args, settings.config))
        else:
            say(f"{part.name}, {case}")
            found = attempt(settings, case)
            if found is not None:
                kind, _, step = case.partition("-")
                kept, key = (part.stages, step) if kind == "stages" else (part.cases, case)
                kept[key] = found
    return part


def say(what: str) -> None:
    """Tell what is going on."""
    print(f"measuring: {what} …", flush=True)


def cases_of(args: argparse.Namespace, name: str) -> list[str]:
    """What is measured of a preset."""
    from semflow.utils.device import resolve_device

    cases = words(args.cases, "cases", CASE_NAMES) if args.cases else list(PRESETS[name].cases)
    if args.sweep and "sweep" not in cases:
        cases.append("sweep")
    skip = args.skip_encoding
    if skip is None:
        skip = resolve_device(args.device).type == "cpu" and name == "published"
    return [case for case in cases if not (case == "encode" and skip)]


def settings_of(args: argparse.Namespace, preset: Preset, config: Config) -> BenchmarkSettings:
    """Sizes of the options and of the preset."""
    from semflow.engine.benchmark import BenchmarkSettings

    render_height, render_width = render_size(args)
    return BenchmarkSettings(
        config=config, height=args.height or preset.height, width=args.width or preset.width, frames=args.frames,
        classes=args.classes, scenes=args.scenes, render_height=render_height, render_width=render_width,
        run=str(args.run or ""), repeats=args.repeats, threads=args.threads, device=args.device)


def sized_config(args: argparse.Namespace, name: str) -> Config:
    """The configuration of the networks and losses with the sizes asked for."""
    from semflow.config.parser import config_from_file
    from semflow.config.schema import Config

    preset, path = PRESETS[name], args.config or (FAST_CONFIG if name == "fast" else None)
    config = config_from_file(path) if path else Config()
    own = preset if args.config is None else replace(preset, rays=None, samples=None, recompute=None)  # it speaks for itself
    changes = {size: value for size in ("rays", "samples") if (value := getattr(args, size) or getattr(own, size))}
    recompute = own.recompute if args.recompute is None else args.recompute
    given = {"recompute": recompute} | {name: getattr(args, name) for name in ("compile", "bf16", "tf32", "cuda_graphs")}
    for stage in ("static_stage", "dynamic_stage"):
        config = replace(config, **{stage: replace(getattr(config, stage), **changes)})
    return replace(config, train=replace(config.train, **{key: value for key, value in given.items() if value is not None}))


def quality(args: argparse.Namespace, config: Config) -> Quality:
    """The curve of a configuration on its scenes, or on those of the options."""
    from semflow.cli.evaluate import load_scenes
    from semflow.cli.train import make_missing_demo_scenes
    from semflow.data.frame_lists import parse_frames
    from semflow.engine.benchmark_quality import QualityPlan, measure_quality
    from semflow.engine.evaluator import evaluate
    from semflow.engine.loading import load_run
    from semflow.engine.protocols import find_protocol

    data = replace(config.data, dir=args.data_dir or config.data.dir, scenes=tuple(args.scene or config.data.scenes))
    train = replace(config.train, threads=args.threads or config.train.threads)
    config = replace(config, data=data, train=train, device=args.device)
    make_missing_demo_scenes(config)
    scenes, truth_labels = load_scenes(data, args.device)
    colors = {s.name: parse_frames(data.color_frames, s.frames, "data.color_frames") for s in scenes}
    plan = QualityPlan(config, minutes(args), args.along, find_protocol("corrected"), args.every, args.out)

    def judge(checkpoint: Path, out: Path) -> None:
        loaded = load_run(checkpoint.parents[1], args.device, checkpoint)
        evaluate(loaded.renderer, scenes, out, plan.protocol, truth_labels=truth_labels, color_frames=colors,
                 every=plan.every, evaluated=loaded.identity)

    return measure_quality(plan, judge, say)
