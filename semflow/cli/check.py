"""Check data: name every missing or broken file of its scenes, what is wrong and what to do.

Prints a line per problem and a summary of each scene that is in order. Exit status 0 where all scenes are,
2 where there are problems.
"""

from __future__ import annotations

import argparse
from dataclasses import fields

from semflow.cli.run_options import LABELS_DIR
from semflow.config.schema import DataConfig
from semflow.data.check import check_scenes

DEFAULT_FACTOR = next(item.default for item in fields(DataConfig) if item.name == "factor")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `semflow check`."""
    parser.add_argument("data", metavar="DATA", help="root with labelmap.txt and one folder per scene")
    parser.add_argument(*LABELS_DIR, default="", help="second root, where labels are kept apart")
    parser.add_argument("--scene", action="append", metavar="NAME", help="scene folder, may be repeated (default: all)")
    parser.add_argument(
        "--factor", type=int, default=DEFAULT_FACTOR, help="image factor K of the frames (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Print the problems or the summary of each scene; 0 where there is no problem, else 2."""
    config = DataConfig(dir=args.data, labels_dir=args.labels_dir, scenes=(), factor=args.factor)
    root_problems, reports = check_scenes(config, args.scene)
    problems = [*root_problems, *(problem for report in reports for problem in report.problems)]
    for problem in dict.fromkeys(problems):
        print(problem)
    for report in reports:
        if report.summary:
            print(report.summary)
    if problems:
        print(f"{len(dict.fromkeys(problems))} problem(s) in {args.data}")
    return 2 if problems else 0
