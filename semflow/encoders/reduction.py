"""Principal components of frozen maps: fewer channels, once, before training."""

from __future__ import annotations

import torch
from torch import Tensor

from semflow.encoders.features import FrameFeatures
from semflow.utils.errors import ConfigError

_SAMPLES = 16384


def reduce_channels(features: FrameFeatures, channels: int) -> tuple[FrameFeatures, float]:
    """Project maps onto their leading principal components.

    The components come from the covariance of at most 16,384 cells, drawn with a fixed seed and decomposed in
    float64 on the CPU: the same maps always give the same result. All components are divided by one common
    factor that makes their average variance 1, so that distances between features keep their proportions.

    Args:
        features: maps (T, h, w, C); the code is handed on as it is.
        channels: components to keep; 0 keeps the maps as they are.

    Returns:
        The features with maps (T, h, w, channels), and the share of the variance they explain, in [0, 1].

    Raises:
        ConfigError: more components are asked for than the maps have channels.
    """
    if channels == 0:
        return features, 1.0
    if channels > features.channels:
        raise ConfigError(f"encoder.pca = {channels}: the maps have only {features.channels} channels; "
                          f"choose at most {features.channels}, or 0 to keep all")
    sample = _subsample(features.maps)
    mean = sample.mean(dim=0)
    covariance = (sample - mean).T @ (sample - mean) / len(sample)
    variances, components = torch.linalg.eigh(covariance)  # ascending
    variances, components = variances.clamp(min=0).flip(0), _fix_signs(components.flip(1))
    kept, total = float(variances[:channels].sum()), float(variances.sum())
    scale = (kept / channels) ** -0.5 if kept > 0 else 1.0
    basis = (components[:, :channels] * scale).to(features.maps)  # (C, channels)
    offset = mean.to(features.maps) @ basis
    maps = features.maps.new_empty(*features.maps.shape[:3], channels)
    for target, source in zip(maps, features.maps):  # one frame at a time: the maps may fill the memory
        target.copy_(source @ basis - offset)
    return FrameFeatures(maps, features.code), kept / total if total > 0 else 1.0


def _subsample(maps: Tensor) -> Tensor:
    """At most `_SAMPLES` cells of (T, h, w, C) as float64 (n, C) on the CPU."""
    cells = maps.flatten(0, 2)
    if len(cells) > _SAMPLES:
        generator = torch.Generator().manual_seed(0)
        index = torch.randperm(len(cells), generator=generator)[:_SAMPLES].sort().values
        cells = cells[index.to(cells.device)]
    return cells.detach().cpu().double()


def _fix_signs(components: Tensor) -> Tensor:
    """Eigenvectors are defined up to sign: make the entry of largest magnitude positive."""
    largest = components.abs().argmax(dim=0, keepdim=True)
    return components * components.gather(0, largest).sign()
