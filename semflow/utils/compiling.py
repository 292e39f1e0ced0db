"""Methods of networks that torch compiles, and that run as they are where it cannot."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch


class Compiled:
    """A method, compiled at its first call for any number of points.

    It takes the method's place as an attribute of the module, which keeps its parameters' names and may be copied: the
    copy's method is compiled anew. Where compilation fails, for want of a compiler say, the method itself runs from
    then on, and a line says so.

    Args:
        method: of tensors and None to tensors.
    """

    def __init__(self, method: Callable):
        self.method, self.compiled = method, torch.compile(method, dynamic=True)

    def __call__(self, *args):
        if self.compiled is None:
            return self.method(*args)
        try:
            return self.compiled(*args)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever is wrong with the arguments is wrong without compilation, too
            self.compiled = None
            found = self.method(*args)
            print(f"train.compile: {self.method.__qualname__} runs uncompiled ({cause_of(error)})", flush=True)
            return found

    def __deepcopy__(self, memo: dict) -> Compiled:
        return Compiled(copy.deepcopy(self.method, memo))


def cause_of(error: Exception) -> str:
    """What is wrong in a line: the first of the message, and the next where that one only announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
