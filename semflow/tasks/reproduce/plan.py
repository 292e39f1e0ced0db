"""Which tables there are, and which runs each one needs.

A run is a task's configuration with the lines of a method's file laid over it, as long as the budget allows, on a scene, with
a seed. Methods are files: each file of `configs/baselines`, `configs/ablations` or `configs/robustness` is a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from semflow.config.parser import stacked_config, with_settings
from semflow.config.schema import Config
from semflow.engine.baselines import BASELINES
from semflow.engine.benchmark_quality import scaled
from semflow.engine.checkpoint import checkpoint_path
from semflow.engine.run_folder import RunFolder
from semflow.engine.stages import stage_fields, total_steps
from semflow.utils.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
OURS = "ours"
OWNED = {"out": "the folder of all is named by --runs", "data.scenes": "scenes are named by --scene",
         "init": "which run starts from which is part of the table"}  # keys that differ from run to run


@dataclass(frozen=True)
class Method:
    """A row: a configuration's lines, or a method without a field.

    Attributes:
        name: of the row. meaning: a sentence. overlay: file whose own lines are laid over the task's, or None.
        baseline: name of a method that is not trained, or empty.
    """

    name: str
    meaning: str
    overlay: Path | None = None
    baseline: str = ""


@dataclass(frozen=True)
class Table:
    """A table: its tasks crossed with its methods.

    Attributes:
        name: of the command line and the files. title: above it. tasks: names of files of tasks.
        folders: of `configs`, whose files are its methods beside ours.
        untrained: also the methods without a field. together: its scenes are trained in one model.
        start: task whose run, on the budget's several scenes, may be started from; empty: none.
        curve: also judge the checkpoints on the way; its tasks are as long as they say, whatever the budget.
    """

    name: str
    title: str
    tasks: tuple[str, ...]
    folders: tuple[str, ...] = ()
    untrained: bool = False
    together: bool = False
    start: str = ""
    curve: bool = False


BASELINE_FILES = ("baselines",)
TABLES = {table.name: table for table in (
    Table("full", "Labels on all frames", ("full",), BASELINE_FILES, untrained=True),
    Table("tracking", "Tracking: labels on the first frames",
          ("tracking_25", "tracking_25_all_colors", "tracking_50", "tracking_75"), BASELINE_FILES, untrained=True),
    Table("completion", "Completion: labels on the first and last frames",
          ("completion_25", "completion_50", "completion_75"), BASELINE_FILES, untrained=True),
    Table("weak", "Weak labels on every frame", ("weak_fraction", "weak_scribbles", "weak_box_centre")),
    Table("multi", "Several scenes in one model", ("multi",), BASELINE_FILES, together=True),
    Table("adaptation", "Adaptation of a model of several scenes to a new one", ("adaptation", "adaptation_scratch"),
          start="multi", curve=True),
    Table("ablations", "Ablations: labels on the first quarter of the frames, colours of all", ("tracking_25_all_colors",),
          ("ablations", *BASELINE_FILES)),
    Table("robustness", "Robustness: disturbed input, labels on all frames", ("full",), ("robustness",)),
)}


@dataclass(frozen=True)
class Budget:
    """What a table may cost.

    Attributes:
        name: of the command line. tasks: folder of `configs` with the tasks. length: factor of the steps.
        seeds: of the runs. every: one in N new views is judged.
        scenes: of tables of single scenes. several: trained together. new: adapted to.
        left_out: methods that it cannot afford.
    """

    name: str
    tasks: str
    length: float
    seeds: tuple[int, ...]
    every: int
    scenes: tuple[str, ...] = ("balloon",)
    several: tuple[str, ...] = ("balloon", "flag")
    new: tuple[str, ...] = ("mixed",)
    left_out: tuple[str, ...] = ()


NVIDIA = ("Balloon1", "Balloon2", "Jumping", "Playground", "Skating", "Truck", "Umbrella")
DEEP = ("encoder_joint", "encoder_slowonly", "frequency_encoding")
BUDGETS = {budget.name: budget for budget in (
    Budget("small", "tasks", 0.25, (0,), 6, left_out=DEEP),
    Budget("medium", "tasks", 1.0, (0, 1, 2), 2),
    Budget("paper", "paper", 1.0, (0, 1, 2), 1, NVIDIA, ("Balloon1", "Balloon2"), ("Umbrella",)),
)}


@dataclass(frozen=True)
class Job:
    """A run to train, or a method to apply, and to judge.

    Attributes:
        task, method, seed: what it is. scenes: of the run.
        config: complete, `out` is its folder. baseline: method that is not trained, or empty.
        curve: judge the checkpoints on the way. needs: folder of the run that it starts from, or None.
    """

    task: str
    method: Method
    seed: int
    scenes: tuple[str, ...]
    config: Config
    baseline: str
    curve: bool
    needs: Path | None

    @property
    def folder(self) -> RunFolder:
        """Where it lies."""
        return RunFolder(self.config.out)

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.task} · {self.method.name} · {'+'.join(self.scenes)} · seed {self.seed}"


@dataclass(frozen=True)
class Sources:
    """Where the data are read and the runs are written.

    Attributes:
        runs: folder of all runs. data_dir: root of the scenes; None: as the configurations say.
        scenes: in place of the budget's; empty: the budget's. settings: further values by key, for every run.
        configs: folder of the configurations.
    """

    runs: Path
    data_dir: str | None = None
    scenes: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    configs: Path = CONFIGS


def find_table(name: str) -> Table:
    """The table of this name; ConfigError if there is none."""
    if name not in TABLES:
        raise ConfigError(f"table {name!r}: choose one of {', '.join(TABLES)}, or all")
    return TABLES[name]


def methods_of(table: Table, configs: Path = CONFIGS) -> list[Method]:
    """The rows of a table: ours, the files of its folder, and what is not trained."""
    methods = [Method(OURS, "the method as the task's configuration says")]
    for folder in table.folders:
        methods += [Method(path.stem, first_comment(path), path) for path in sorted((configs / folder).glob("*.txt"))]
    if table.untrained:
        methods += [Method(name, meaning, None, name) for name, meaning in BASELINES.items()]
    return methods


def first_comment(path: Path) -> str:
    """The comment that a configuration begins with, up to its first full stop."""
    words = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        words.append(line.lstrip("# ").strip())
    return " ".join(words).split(". ")[0].rstrip(".:")


def scene_groups(table: Table, budget: Budget, sources: Sources) -> list[tuple[str, ...]]:
    """The scenes of each run of a method: one each, or all in one model.

    Raises:
        ConfigError: scenes are named that do not suffice.
    """
    chosen = sources.scenes
    if table.together:
        return [chosen or budget.several]
    if table.start:
        if len(chosen) == 1:
            raise ConfigError(f"table {table.name}: name at least two scenes; the last is the new one")
        return [chosen[-1:] or budget.new]
    return [(scene,) for scene in chosen or budget.scenes]


def jobs_of(table: Table, budget: Budget, sources: Sources) -> list[Job]:
    """Every run that a table needs, those that others start from first.

    Raises:
        ConfigError: a configuration is missing or wrong, or a setting is not for all runs alike.
    """
    refuse_owned(sources.settings)
    jobs = []
    for seed in budget.seeds:
        start = None
        if table.start:
            scenes = sources.scenes[:-1] or budget.several
            start = make_job(table.start, methods_of(table)[0], scenes, seed, budget, sources)
            jobs.append(start)
        for scenes in scene_groups(table, budget, sources):
            for task in table.tasks:
                for method in methods_of(table, sources.configs):
                    if method.name not in budget.left_out:
                        jobs.append(make_job(task, method, scenes, seed, budget, sources, table.curve, start))
    # what is not trained has no seed
    return [job for job in jobs if not job.baseline or job.seed == budget.seeds[0]]


def refuse_owned(settings: Sequence[str]) -> None:
    """ConfigError for a setting, KEY=VALUE, of a key that each run has its own value of."""
    for setting in settings:
        key = setting.partition("=")[0].strip()
        if key in OWNED:
            raise ConfigError(f"set = {setting!r}: each run has its own {key}; {OWNED[key]}")


def make_job(task: str, method: Method, scenes: tuple[str, ...], seed: int, budget: Budget, sources: Sources,
             curve: bool = False, start: Job | None = None) -> Job:
    """One run. A task whose file names an `init` starts from the last checkpoint of `start`."""
    out = sources.runs / budget.name / "+".join(scenes) / task / method.name / f"seed-{seed}"
    values = {"out": str(out), "data.scenes": scenes, "train.seed": seed}
    if sources.data_dir is not None:
        values["data.dir"] = sources.data_dir
    file, overlays = sources.configs / budget.tasks / f"{task}.txt", [method.overlay] if method.overlay else []
    config, needs = stacked_config(file, overlays, values), None
    if config.init and start is not None:
        needs = start.folder.path
        config = replace(config, init=str(checkpoint_path(start.folder.checkpoints, total_steps(start.config))))
    if not curve:
        config = replace(config, **{
            name: scaled(stage, budget.length) for name, stage in stage_fields(config).items() if stage.steps})
    config = with_settings(config, sources.settings)
    return Job(task, method, seed, scenes, config, method.baseline, curve and not method.baseline, needs)


def unique(jobs: Sequence[Job]) -> list[Job]:
    """Each run once, in order; tables share runs."""
    found: dict[Path, Job] = {}
    for job in jobs:
        path = job.folder.path
        found[path] = found.get(path) or job
        if job.curve:
            found[path] = job
    return list(found.values())
