"""What is wrong with a file of a scene, as an error to raise or as a line of a report.

The readers of this package raise `BrokenFile`. They take an `attempt`, which calls a function that reads
one thing: `strictly` lets its error through (loading stops at the first problem), a `Collector` keeps it
and goes on (checking finds every problem). So both say the same about the same file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semflow.utils.errors import DataError

Attempt = Callable[..., Any]  # (function, *arguments) -> its result, or None where a problem was kept


@dataclass(frozen=True)
class Problem:
    """One problem of one file.

    Attributes:
        path: the file or folder.
        what: what is wrong with it.
        remedy: what to do.
    """

    path: Path
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}; {self.remedy}"


class BrokenFile(DataError):
    """A file cannot be used; `problem` says why. The message is the problem's line."""

    def __init__(self, path: Path, what: str, remedy: str):
        self.problem = Problem(Path(path), what, remedy)
        super().__init__(str(self.problem))


def strictly(function: Callable, *arguments) -> Any:
    """Call `function`; a broken file ends the reading."""
    return function(*arguments)


@dataclass
class Collector:
    """Calls functions and keeps the problems of those that fail.

    Attributes:
        problems: the problems so far, in the order of reading.
    """

    problems: list[Problem] = field(default_factory=list)

    def __call__(self, function: Callable, *arguments) -> Any:
        """The result of `function`, or None where it found a broken file."""
        try:
            return function(*arguments)
        except BrokenFile as error:
            self.problems.append(error.problem)
            return None
