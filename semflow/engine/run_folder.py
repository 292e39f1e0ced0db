"""The folder of one run: where everything lies, and whether a run may start or go on there.

<out>/config.txt        resolved configuration, written before step 0; can be run again by --config
<out>/checkpoints/      step-00000500.safetensors …
<out>/tensorboard/  <out>/eval/  <out>/renders/
<out>/log.txt           dated lines
<out>/finished.json     written when training has ended
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from semflow.config.parser import config_differences, config_from_file, config_to_text
from semflow.config.schema import Config
from semflow.engine.checkpoint import newest_checkpoint
from semflow.utils.errors import CheckpointError, ConfigError
from semflow.utils.files import move_aside, write_json, write_text

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

OTHER_FOLDER = "choose another --out, or --overwrite to move the old folder aside"  # options of `semflow train`
PLACES = ("data.dir", "data.labels_dir")  # of data that may have been moved: a trainer that goes on compares the scenes
FREE_KEYS = (  # where, how fast and with what kept on the way: none of them is seen in a result but by rounding
    "out", "device", "render.chunk", "train.compile", "train.cuda_graphs", "train.images_every", "train.keep",
    "train.log_every", "train.recompute", "train.save_every", "train.threads")


class RunState(Enum):
    """What a run folder holds, seen from a configuration."""

    NEW = "nothing yet"
    STARTED = "no checkpoint: whatever its configuration, nothing of it is gone on from"
    UNFINISHED = "the same configuration and a checkpoint"
    FINISHED = "the same configuration, training ended"


class RunFolder:
    """Paths of a run; nothing is made before `create`."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config_file = self.path / "config.txt"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.eval = self.path / "eval"
        self.renders = self.path / "renders"
        self.log_file = self.path / "log.txt"
        self.finished_file = self.path / "finished.json"

    @property
    def newest_checkpoint(self) -> Path | None:
        """The newest checkpoint, or None."""
        return newest_checkpoint(self.checkpoints)

    def require_checkpoint(self) -> Path:
        """The newest checkpoint; CheckpointError with the remedy if there is none."""
        if not self.path.is_dir():
            raise CheckpointError(f"{self.path}: no such run folder; check --run")
        checkpoint = self.newest_checkpoint
        if checkpoint is None:
            raise CheckpointError(f"{self.checkpoints}: holds no checkpoint; train first by semflow train")
        return checkpoint

    def config(self) -> Config:
        """The configuration of the run; ConfigError if config.txt is missing or broken."""
        return config_from_file(self.config_file)

    def state(self, config: Config, remedy: str = OTHER_FOLDER) -> RunState:
        """What the folder holds for a run of `config`; `remedy` is what errors advise.

        Raises:
            ConfigError: if it holds a run of another configuration (naming the keys), or something else.
        """
        if not self.path.exists() or self._is_empty():
            return RunState.NEW
        if not self.config_file.is_file():
            raise ConfigError(f"out = {self.path}: exists but is no run folder (no config.txt); {remedy}")
        differences = config_differences(self.config(), config)
        finished = self.finished_file.exists()
        if not finished and self.newest_checkpoint is None:
            return RunState.STARTED
        differences = {key: pair for key, pair in differences.items() if not _is_free(key, pair[0], finished)}
        if differences:
            listed = ", ".join(f"{key} ({old!r} there, {new!r} now)" for key, (old, new) in differences.items())
            raise ConfigError(f"out = {self.path}: holds a run of another configuration: {listed}; {remedy}")
        return RunState.FINISHED if finished else RunState.UNFINISHED

    def create(self, config: Config) -> None:
        """Make the folders and write config.txt, unless the run has one that it goes on with; ConfigError as `state`."""
        state = self.state(config)
        if state is RunState.NEW or (state is RunState.STARTED and self.config() != config):
            write_text(self.config_file, config_to_text(config))
        for folder in (self.checkpoints, self.tensorboard, self.eval, self.renders):
            folder.mkdir(parents=True, exist_ok=True)

    def move_aside(self) -> Path | None:
        """Rename the folder to the first free `<out>.bak-N`; returns the new name, None if there is no folder.

        Raises:
            ConfigError: as `require_movable`.
        """
        self.require_movable()
        return move_aside(self.path) if self.path.exists() else None

    def require_movable(self) -> None:
        """Check that the folder, if there is one, can be moved aside.

        Raises:
            ConfigError: a training runs in it, or this command does: what it writes would follow the folder to its new name.
        """
        if Path.cwd().is_relative_to(self.path.resolve()):
            raise ConfigError(f"out = {self.path}: holds the working directory and cannot be moved aside; choose another --out")
        with self.locked():
            pass

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other trainings out of the folder while a block runs, where there is a folder and the system has locks.

        Raises:
            ConfigError: another training runs in it.
        """
        if fcntl is None or not self.path.is_dir():
            yield
            return
        with open(self.path / ".lock", "a", encoding="utf-8") as file:  # the lock goes with the process, however that ends
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"out = {self.path}: another training runs in it; wait for it, or choose another --out") from None
            except OSError:  # a file system without locks
                pass
            yield

    def mark_finished(self, summary: dict[str, Any]) -> None:
        """Write finished.json: training has ended; `summary` is JSON-able."""
        write_json(self.finished_file, summary)

    def log(self, message: str) -> None:
        """Append a dated line to log.txt (after `create`)."""
        with open(self.log_file, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")

    def _is_empty(self) -> bool:
        """A folder with nothing but evaluations of baselines, and hidden files, which a killed writer may have left."""
        return self.path.is_dir() and all(
            item.name.startswith(".") or (item.name.startswith("eval_") and item.is_dir()) for item in self.path.iterdir())


def _is_free(key: str, old: str, finished: bool) -> bool:
    """Whether a setting may differ from its `old` value in the run folder.

    Nobody looks at the scenes of a finished run: those at another place are taken for them only if nothing is at the old one.
    """
    return key in FREE_KEYS or (key in PLACES and not (finished and Path(old).exists()))
