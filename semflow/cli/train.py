"""Train a semantic field on one scene or several; a run that was stopped goes on by the same command."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

from semflow.cli.main import EXIT_INTERRUPTED
from semflow.config.parser import StrictParser, parse_arguments
from semflow.config.schema import Config
from semflow.utils.errors import ConfigError

if TYPE_CHECKING:
    from semflow.engine.run_folder import RunFolder, RunState


def main(argv: Sequence[str]) -> int:
    """Parse the command line, make the demo scene if it is asked for and missing, and train.

    Returns:
        The exit status: EXIT_INTERRUPTED if a signal ended the training before its last step.

    Raises:
        SemflowError: for every wrong input.
    """
    config, options = parse_arguments(argv, _add_options)

    from semflow.engine.run_folder import RunState  # imports torch: not before the configuration is right
    from semflow.engine.stages import require_steps
    from semflow.utils.device import resolve_device
    from semflow.utils.ranks import from_first_rank

    require_steps(config)
    resolve_device(config.device)  # quick checks first: nothing is made or moved for a wrong command line
    state, checkpoint = from_first_rank(lambda: _prepare(config, options))
    if state is not RunState.FINISHED:
        from semflow.engine.trainer import train

        if not train(config, resume=checkpoint, overwrite=options.overwrite):
            return EXIT_INTERRUPTED
    return 0


def _prepare(config: Config, options: Namespace) -> tuple[RunState, Path | None]:
    """Look into the run folder and make a missing demo scene; the state and the checkpoint to go on from."""
    from semflow.engine.run_folder import RunFolder, RunState

    folder = RunFolder(config.out)
    if options.overwrite:  # the trainer does it, once it has read the data
        folder.require_movable()
        if not folder.path.exists():
            print(f"{folder.path} is new: nothing to move aside")
    state = RunState.NEW if options.overwrite else folder.state(config)
    if state in (RunState.STARTED, RunState.UNFINISHED):
        with folder.locked():  # early; the trainer holds the lock
            pass
    if options.resume and state in (RunState.NEW, RunState.STARTED):
        raise ConfigError(f"out = {folder.path}: nothing to resume, it holds no checkpoint; leave out --resume")
    print(_announcement(folder, state), flush=True)
    if state is not RunState.FINISHED:
        make_missing_demo_scenes(config)
    return state, folder.newest_checkpoint if state is RunState.UNFINISHED else None


def _announcement(folder: RunFolder, state: RunState) -> str:
    if state.name == "FINISHED":
        return (f"{folder.path} is finished already; evaluate it by `semflow evaluate --run {folder.path}`, or start "
                "over by --overwrite")
    if state.name == "UNFINISHED":
        return (f"{folder.path} holds an unfinished run of this configuration: going on from "
                f"{folder.newest_checkpoint.name}")
    if state.name == "STARTED":
        return f"{folder.path} holds a run without a checkpoint: starting from step 0"
    return f"new run in {folder.path}"


def _add_options(parser: StrictParser) -> None:
    group = parser.add_argument_group(
        "continuing", "By default a run whose folder holds an unfinished run of the same configuration goes on.")
    choice = group.add_mutually_exclusive_group()
    choice.add_argument("--resume", action="store_true", help="insist: an error if there is nothing to go on from")
    choice.add_argument("--overwrite", action="store_true",
                        help="start over; the old folder is kept as OUT.bak-N")


def make_missing_demo_scenes(config: Config) -> None:
    """Make the demo scenes that the configuration asks for and that are not in `data.dir`."""
    from semflow.data.synthetic import make_missing_scenes

    make_missing_scenes(Path(config.data.dir), config.data.scenes)
