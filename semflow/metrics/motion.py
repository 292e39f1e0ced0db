"""Optical flow against truth."""

from __future__ import annotations

from torch import Tensor


def end_point_error(flow: Tensor, truth: Tensor, valid: Tensor | None = None) -> float | None:
    """Mean Euclidean distance in pixels between flow vectors.

    Args:
        flow: (..., 2) pixels.
        truth: (..., 2) pixels; may hold anything, NaN too, where not valid.
        valid: (...) bool, True = counted; None counts all.

    Returns:
        The mean, or None where nothing is valid.

    Raises:
        ValueError: shapes that do not fit.
    """
    if flow.shape != truth.shape or flow.shape[-1] != 2:
        raise ValueError(f"end_point_error needs two (..., 2) flows, got {tuple(flow.shape)} and {tuple(truth.shape)}")
    if valid is not None and valid.shape != flow.shape[:-1]:
        raise ValueError(f"end_point_error: valid is {tuple(valid.shape)}, expected {tuple(flow.shape[:-1])}")
    distance = (flow.double() - truth.double()).square().sum(-1).sqrt()
    counted = distance.flatten() if valid is None else distance[valid]
    return float(counted.mean()) if counted.numel() else None
