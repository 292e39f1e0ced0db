"""Writing files so that a reader sees the old content or the new, never half of it.

Everything goes to a temporary name in the same folder, is flushed to the disk and then renamed.
"""

from __future__ import annotations

import json
import os
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

TEMPORARY = ".partial"  # suffix of unfinished files, which begin with a dot


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary name to write to; it becomes `path` when the block ends, and goes when the block fails.

    The folder of `path` is made where missing. An existing `path` is replaced in one step.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # the real suffix stays last: image and video writers choose their format by it
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{TEMPORARY}{path.suffix}")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, content: str) -> None:
    """Write `content` to `path` atomically, as UTF-8 with Unix line ends."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` to `path` atomically as indented JSON; NaN and infinity are refused (ValueError)."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def move_aside(path: str | Path) -> Path:
    """Rename `path` to the first free `path.bak-N`, N = 1, 2, …; returns the new name."""
    path = Path(path)
    path = path if path.name not in ("", "..") else path.resolve()  # `.` and `x/..` have no name to add to
    number = 1
    while (target := path.with_name(f"{path.name}.bak-{number}")).exists():
        number += 1
    return path.rename(target)


def _sync(path: Path) -> None:
    """Flush a file or, where the system allows opening it, a folder to the disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
