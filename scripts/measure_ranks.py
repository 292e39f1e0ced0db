"""Time of a training step in one process and split over several, on a random scene, with the options of the benchmark.

    python scripts/measure_ranks.py --preset fast --threads 1 --repeats 10
    torchrun --nproc_per_node=2 -- scripts/measure_ranks.py --preset fast --threads 1 --repeats 10

Every process runs the whole step: its share of the rays, the exchange of counts and gradients, clip and Adam. Steps follow
each other as in training, ten of the fast form, one of the others, then a matrix product of the same moment is timed. The time is
the median of such means on rank 0, which waits for the others in every step. Nothing else should run on the machine.
"""

import argparse
import os
import sys
from contextlib import nullcontext

from semflow.cli import benchmark
from semflow.cli.main import CommandParser
from semflow.engine.benchmark import measure_here
from semflow.utils.errors import OtherRankFailed, SemflowError
from semflow.utils.ranks import joined, ranks

IN_A_ROW = {"fast": 10}


def main() -> None:
    """Measure both steps of every preset and print a line for each; SemflowError for a bad option."""
    parser = CommandParser(
        prog="measure_ranks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    benchmark.add_arguments(parser)
    args = parser.parse_args()
    presets = benchmark.checked(args)
    with joined() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else nullcontext():
        for name in presets:
            settings = benchmark.settings_of(args, benchmark.PRESETS[name], benchmark.sized_config(args, name))
            for case in ("static", "dynamic"):
                found = measure_here(settings, case, IN_A_ROW.get(name, 1))
                threads = f"{ranks()} x {args.threads or 'all'} threads"
                print(f"{name}, {case} step, {threads}: {found.seconds:.4f} s = {found.products:.3f} products", flush=True)


if __name__ == "__main__":
    try:
        main()
    except OtherRankFailed:
        sys.exit(2)
    except SemflowError as error:
        print(f"measure_ranks: error: {error}", file=sys.stderr)
        sys.exit(2)
