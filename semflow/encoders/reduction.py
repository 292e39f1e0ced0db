"""Principal components of frozen maps: fewer channels, by one basis for all scenes that share a model."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from semflow.encoders.features import FrameFeatures
from semflow.encoders.frozen import FrozenEncoder
from semflow.utils.ranks import from_first_rank

_SAMPLES = 16384


class ReducedEncoder(FrozenEncoder):
    """A frozen encoder whose maps are projected onto their leading principal components.

    The components are those of the first clips it sees (`fit`), and from then on a part of the weights: networks that
    learned to read them find the same in a checkpoint, and in the scenes that the model is adapted to. All are divided by
    one common factor that makes their average variance 1, so that distances between features keep their proportions.

    Args:
        encoder: the encoder.
        channels: components to keep, fewer than its channels.
    """

    def __init__(self, encoder: nn.Module, channels: int):
        super().__init__()
        self.encoder = encoder
        self.channels, self.code_channels = channels, encoder.code_channels
        self.register_buffer("basis", torch.zeros(encoder.channels, channels))
        self.register_buffer("offset", torch.zeros(channels))
        self.register_buffer("explained", torch.full((), torch.nan))
        self.freeze()

    @property
    def fitted(self) -> bool:
        """Whether there is a basis."""
        return not bool(self.explained.isnan())

    def description(self) -> str:
        """One sentence: which weights are in use, and what is left of the maps."""
        kept = f", with {float(self.explained):.1%} of the variance" if self.fitted else ""
        return f"{self.encoder.description()}; reduced to {self.channels} channels{kept}"

    @torch.no_grad()
    def fit(self, clips: Iterable[Tensor]) -> None:
        """Find the basis for clips of frames (T, 3, H, W), all of which count alike.

        It comes from the covariance of at most 16,384 cells of each clip, drawn with a fixed seed and decomposed in float64
        on the CPU: the same clips always give the same basis.
        """
        found = from_first_rank(
            lambda: principal_components([sample(self.encoder(clip).maps) for clip in clips], self.channels))
        for own, value in zip((self.basis, self.offset, self.explained), found):
            own.copy_(value)

    def forward(self, frames: Tensor) -> FrameFeatures:
        """Reduced maps (T, h, w, channels) and the code of frames (T, 3, H, W) in [0, 1]; RuntimeError before `fit`."""
        if not self.fitted:
            raise RuntimeError("a reduced encoder has to be fitted first")
        features = self.encoder(frames)
        maps = features.maps.new_empty(*features.maps.shape[:3], self.channels)
        for target, source in zip(maps, features.maps):  # one frame at a time: the maps may fill the memory
            target.copy_(source @ self.basis - self.offset)
        return FrameFeatures(maps, features.code)


def principal_components(clips: list[Tensor], channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of cells (n, C) of several clips, float64.

    Returns:
        basis (C, channels) and offset (channels,), by which a cell becomes cell @ basis - offset, and the share () of the
        variance that is left, in [0, 1].
    """
    mean = torch.stack([cells.mean(dim=0) for cells in clips]).mean(dim=0)
    covariance = torch.stack([(cells - mean).T @ (cells - mean) / len(cells) for cells in clips]).mean(dim=0)
    variances, components = torch.linalg.eigh(covariance)  # ascending
    variances, components = variances.clamp(min=0).flip(0), _fix_signs(components.flip(1))
    kept, total = variances[:channels].sum(), variances.sum()
    basis = components[:, :channels] * (kept / channels) ** -0.5 if kept > 0 else components[:, :channels]
    return basis, mean @ basis, kept / total if total > 0 else torch.ones_like(total)


def sample(maps: Tensor) -> Tensor:
    """At most `_SAMPLES` cells of (T, h, w, C) as float64 (n, C) on the CPU."""
    cells = maps.flatten(0, 2)
    if len(cells) > _SAMPLES:
        generator = torch.Generator().manual_seed(0)
        index = torch.randperm(len(cells), generator=generator)[:_SAMPLES].sort().values
        cells = cells[index.to(cells.device)]
    return cells.cpu().double()


def _fix_signs(components: Tensor) -> Tensor:
    """Eigenvectors are defined up to sign: make the entry of largest magnitude positive."""
    largest = components.abs().argmax(dim=0, keepdim=True)
    return components * components.gather(0, largest).sign()
