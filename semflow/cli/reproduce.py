"""Train, judge and tabulate what a table of the tasks, baselines and ablations needs; what is done is kept.

Writes RESULTS/BUDGET/TABLE.md, .csv, .json and figures. Stopped, the same command goes on. With --scene it takes other scenes
than the budget has, and writes TABLE-SCENE.*; with --only or --tasks the files hold these rows alone
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from semflow.utils.errors import ConfigError, SemflowError

if TYPE_CHECKING:
    from semflow.tasks.reproduce.plan import Budget, Job, Sources, Table

BUDGET_NAMES = ("small", "medium", "paper")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `semflow reproduce`."""
    several = {"nargs": "+", "action": "extend", "default": []}  # given twice, an option adds to what it named
    parser.add_argument("table", nargs="+", help="full, tracking, completion, weak, multi, adaptation, ablations, robustness, or all")
    parser.add_argument("--budget", choices=BUDGET_NAMES, default="small",
                        help="small: all tables in three to four hours on two cores; medium: full length, three seeds; paper: the "
                             "published sizes on the NVIDIA scenes (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:N, or a list like cuda:0,cuda:1: one run at a time on each")
    parser.add_argument("--jobs", type=int, default=0, metavar="N",
                        help="runs at a time on each device (default: one, on the CPU one per core that may be used, at most four)")
    parser.add_argument("--data_dir", help="root of the scenes (default: as the configurations say)")
    parser.add_argument("--scene", **several, metavar="NAME",
                        help="scenes in place of the budget's; the last one is the new one of adaptation")
    parser.add_argument("--only", **several, metavar="METHOD", help="only these methods")
    parser.add_argument("--tasks", **several, metavar="TASK", help="only these tasks, e.g. tracking_25")
    parser.add_argument("--set", **several, metavar="KEY=VALUE", help="settings of every run, e.g. data.factor=4")
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"), help="folder of the runs (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the tables (default: %(default)s)")
    parser.add_argument("--collect", action="store_true", help="run nothing: write the tables from what is there")
    parser.add_argument("--no-figures", action="store_true", help="write no pictures")


def run(args: argparse.Namespace) -> int:
    """Run what is missing and write the tables; status 1 if runs failed.

    Raises:
        SemflowError: a wrong option, configuration or folder.
    """
    from semflow.tasks.reproduce.plan import BUDGETS, TABLES, Sources, find_table, jobs_of, unique
    from semflow.tasks.reproduce.running import run_jobs

    names = list(TABLES) if args.table == ["all"] else args.table
    tables, budget = [find_table(name) for name in names], BUDGETS[args.budget]
    sources = Sources(args.runs, args.data_dir, tuple(args.scene), tuple(args.set))
    planned = {table: jobs_of(table, budget, sources) for table in tables}
    refuse_unknown(planned, args.only, args.tasks, budget)
    jobs = {table: chosen(table, planned[table], args.only, args.tasks) for table in tables}
    tables = [table for table in tables if jobs[table]]
    failures = []
    if not args.collect:
        wanted = unique([job for table in tables for job in jobs[table]])
        make_missing_scenes(wanted)
        failures = run_jobs(wanted, budget.every, device_slots(args.device, args.jobs), lambda line: print(line, flush=True))
    for table in tables:
        path = write(args, table, budget, sources, jobs[table])
        if len(jobs[table]) < len(planned[table]):
            print(f"{path}.md, .csv, .json now hold these rows only; --collect without --only and --tasks writes the whole table")
    for line in failures:
        print(f"failed: {line}")
    return 1 if failures else 0


def refuse_unknown(planned: dict[Table, list[Job]], only: list[str], tasks: list[str], budget: Budget) -> None:
    """A name must be a method, or a task, of one of the tables at least, as far as the budget goes.

    Raises:
        ConfigError: a name that is in none of them.
    """
    methods = {job.method.name for jobs in planned.values() for job in jobs}
    known = {"only": (methods, only), "tasks": ({name for table in planned for name in table.tasks}, tasks)}
    for option, (names, wanted) in known.items():
        for name in set(wanted) - names:
            if name in budget.left_out:
                raise ConfigError(f"{option} = {name!r}: the budget {budget.name} leaves it out; take a larger one by --budget")
            raise ConfigError(f"{option} = {name!r}: {', '.join(table.name for table in planned)} has {', '.join(sorted(names))}")


def chosen(table: Table, jobs: list[Job], only: list[str], tasks: list[str]) -> list[Job]:
    """The jobs of the named methods and tasks (none: all), and those that they start from."""
    found = [job for job in jobs if (not only or job.method.name in only)
             and (not tasks or job.task in tasks or job.task not in table.tasks)]
    return found if any(job.task in table.tasks for job in found) else []


def make_missing_scenes(jobs: list[Job]) -> None:
    """Make the synthetic scenes that are not there yet, before runs ask for them at once."""
    from semflow.data.synthetic import make_missing_scenes

    for root, names in {(job.config.data.dir, job.config.data.scenes) for job in jobs}:
        make_missing_scenes(Path(root), names)


def device_slots(devices: str, jobs: int) -> list[str]:
    """A device per run that may be going on.

    Raises:
        ConfigError: a negative number, or a device that does not exist.
    """
    from semflow.utils.device import resolve_device, usable_cores

    if jobs < 0:
        raise ConfigError(f"jobs = {jobs}: must not be negative")
    names = [str(resolve_device(name.strip())) for name in devices.split(",")]
    return [name for name in names for _ in range(jobs or (min(4, usable_cores()) if name == "cpu" else 1))]


def write(args: argparse.Namespace, table: Table, budget: Budget, sources: Sources, jobs: list[Job]) -> Path:
    """The files of a table, and a word on each; returns their path without endings."""
    from semflow.tasks.reproduce.collecting import collect
    from semflow.tasks.reproduce.figures import draw_figures
    from semflow.tasks.reproduce.report import write_tables

    rows, curve = collect(table, jobs, budget.every)
    folder = args.results / budget.name
    path = folder / "-".join([table.name, *sources.scenes])
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = []
    if not args.no_figures:
        try:
            pictures = draw_figures(path, rows, curve, args.device.split(",")[0])
        except SemflowError as error:
            print(f"{table.name}: no figures: {error}")
    write_tables(path, table, budget, rows, curve, pictures)
    print(f"written: {path}.md, .csv, .json" + "".join(f", {picture.name}" for picture in pictures))
    return path
