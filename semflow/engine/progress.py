"""Progress of a stage: a tqdm bar on a terminal, plain lines elsewhere; ETA, loss, PSNR and mIoU."""

from __future__ import annotations

import math
import sys
import time
from typing import TextIO

import torch
from torch import Tensor
from tqdm import tqdm

LINE_SECONDS = 10.0  # a plain line at least this often …
LINE_SHARE = 0.05  # … and after this share of the stage


class RunningMean:
    """Exponential mean without the bias of its start: over few values it is their weighted mean.

    Values may be numbers or 0-d tensors, which are read only in `value`, so that a GPU is not waited for.
    """

    def __init__(self, decay: float = 0.95):
        self.decay = decay
        self._sum: float | Tensor = 0.0
        self._weight: float | Tensor = 0.0

    def add(self, value: float | Tensor | None) -> None:
        """Take in a value; None and NaN change nothing."""
        if value is None:
            return
        value = value.detach() if isinstance(value, Tensor) else torch.tensor(float(value))
        known = ~value.isnan()
        decay = torch.where(known, self.decay, 1.0)
        self._sum = self._sum * decay + torch.where(known, value, 0.0) * (1 - decay)
        self._weight = self._weight * decay + (1 - decay)

    @property
    def value(self) -> float:
        """The mean, NaN before the first value."""
        weight = float(self._weight)
        return float(self._sum) / weight if weight else math.nan


class Progress:
    """Shows how far a stage is; use as a context manager.

    Args:
        name: name of the stage.
        total: steps of the stage.
        start: steps already done (a resumed stage).
        stream: where to write, standard output by default; a bar if it is a terminal, else lines.
    """

    def __init__(self, name: str, total: int, start: int = 0, stream: TextIO | None = None):
        self.name, self.total, self.start, self.step = name, total, start, start
        self.stream = sys.stdout if stream is None else stream
        self.means = {"loss": RunningMean(), "PSNR": RunningMean(), "mIoU": RunningMean()}
        self._bar = None
        self._began = self._last_time = time.monotonic()
        self._last_share, self._last_step = self._share(), start

    def __enter__(self) -> Progress:
        self._began = self._last_time = time.monotonic()
        if self.stream.isatty():
            layout = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {postfix}"
            self._bar = tqdm(total=self.total, initial=self.start, desc=self.name, file=self.stream,
                             bar_format=layout, dynamic_ncols=True)
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._show_bar()
            self._bar.close()
        elif self._last_step != self.step:
            self._print_line()

    def update(self, loss: float | Tensor | None = None, psnr: float | Tensor | None = None,
               miou: float | Tensor | None = None) -> None:
        """One step is done; values that are None or NaN do not enter the running means."""
        self.step += 1
        for mean, value in zip(self.means.values(), (loss, psnr, miou)):
            mean.add(value)
        if self._bar is None:
            late = time.monotonic() - self._last_time >= LINE_SECONDS
            if late or self._share() - self._last_share >= LINE_SHARE - 1e-9 or self.step == self.total:
                self._print_line()
        else:
            self._bar.n = self.step
            if time.monotonic() - self._last_time >= self._bar.mininterval:
                self._show_bar()

    def write(self, message: str) -> None:
        """Print a line without tearing the bar."""
        if self._bar is None:
            print(message, file=self.stream, flush=True)
        else:
            self._bar.write(message, file=self.stream)

    def eta_seconds(self) -> float:
        """Seconds until the end of the stage at the speed so far; NaN before the first step."""
        elapsed, done = time.monotonic() - self._began, self.step - self.start
        return elapsed / done * (self.total - self.step) if done else math.nan

    def summary(self) -> str:
        """`loss 0.0123  PSNR 24.10  mIoU 0.812`, as far as known."""
        digits = {"loss": 4, "PSNR": 2, "mIoU": 3}
        known = {name: mean.value for name, mean in self.means.items() if not math.isnan(mean.value)}
        return "  ".join(f"{name} {value:.{digits[name]}f}" for name, value in known.items())

    def _share(self) -> float:
        return self.step / max(self.total, 1)

    def _show_bar(self) -> None:
        self._last_time = time.monotonic()
        self._bar.set_postfix_str(f"ETA {_clock(self.eta_seconds())}  {self.summary()}", refresh=False)
        self._bar.refresh()

    def _print_line(self) -> None:
        now = time.monotonic()
        self._last_time, self._last_share, self._last_step = now, self._share(), self.step
        times = f"elapsed {_clock(now - self._began)}  ETA {_clock(self.eta_seconds())}"
        self.write(f"{self.name}  {self.step}/{self.total}  {self._share():4.0%}  {self.summary()}  {times}")


def _clock(seconds: float) -> str:
    """`m:ss` or `h:mm:ss`; `?` for NaN."""
    if math.isnan(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
