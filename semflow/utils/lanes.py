"""Parts of a step that do not depend on each other, side by side on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Lanes:
    """Streams beside the current one, for work that is being recorded as a CUDA graph; all other work runs in order.

    The kernels of a step are too small to fill a GPU one by one. Their gradients run in the same lanes. Whatever crosses
    between lanes must be kept until the last gradient is there: a lane takes memory that is free to it at once, and
    does not know who in another lane still reads it.
    """

    def __init__(self):
        self.streams: list[torch.cuda.Stream] = []
        self.busy: list[torch.cuda.Stream] = []

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Run what is inside beside all that comes after it, until `join`."""
        if not recording():
            yield
            return
        if len(self.busy) == len(self.streams):
            self.streams.append(torch.cuda.Stream())
        lane = self.streams[len(self.busy)]
        self.busy.append(lane)
        lane.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(lane):
            yield

    def join(self) -> None:
        """From here on everything that ran aside is there."""
        for lane in self.busy:
            torch.cuda.current_stream().wait_stream(lane)
        self.busy = []


def recording() -> bool:
    """The current stream is being recorded as a CUDA graph."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
