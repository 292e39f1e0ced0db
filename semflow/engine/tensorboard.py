"""A small TensorBoard writer; the package is loaded only when something is written."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping

from torch import Tensor


class TensorBoard:
    """Writes scalars and images to event files below `folder`; use as a context manager or `close` it.

    Args:
        folder: made on the first write.
        resumed_at: step of the checkpoint from which a run goes on; what an earlier process wrote after it is hidden.
    """

    def __init__(self, folder: str | Path, resumed_at: int | None = None):
        self.folder = Path(folder)
        self.resumed_at = resumed_at
        self._writer = None

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def scalars(self, values: Mapping[str, float | Tensor], step: int) -> None:
        """Write each value under its name; 0-d tensors are read."""
        for name, value in values.items():
            self._open().add_scalar(name, float(value), step)

    def image(self, tag: str, image: Tensor, step: int) -> None:
        """Write an (H, W, 3) image in [0, 1]; values outside are clamped.

        Raises:
            ValueError: for another shape.
        """
        if image.ndim != 3 or image.shape[-1] != 3:
            raise ValueError(f"{tag}: an image is (H, W, 3), got {tuple(image.shape)}")
        self._open().add_image(tag, image.detach().float().clamp(0, 1).cpu(), step, dataformats="HWC")

    def flush(self) -> None:
        """Bring everything written so far to the disk."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Flush and close; a later write opens a new event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self):
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            first = None if self.resumed_at is None else self.resumed_at + 1  # a step is written before it is saved
            self._writer = SummaryWriter(str(self.folder), purge_step=first)
        return self._writer
