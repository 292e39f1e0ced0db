"""Means with 95 % confidence intervals: over images by bootstrap, over seeds by Student's t distribution.

The bootstrap takes the images as independent draws. Those of one scene are not quite: neighbours in time and space fail
together, so its interval says how much the choice of images matters, not how another scene or another seed would come out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 1000
SEED = 0
HALVINGS = 60  # of the interval that holds a quantile: down to the rounding of float64


@dataclass(frozen=True)
class Interval:
    """A mean and how well it is known.

    Attributes:
        mean: mean of the values.
        low: lower end of the 95 % interval; None where a single value says nothing about the spread.
        high: upper end, or None.
        count: number of values.
    """

    mean: float
    low: float | None
    high: float | None
    count: int


def bootstrap_interval(values: Sequence[float], resamples: int = RESAMPLES, seed: int = SEED) -> Interval | None:
    """Mean with its percentile bootstrap interval; None without values. See `stratified_interval`."""
    return stratified_interval([values], resamples, seed)


def stratified_interval(
    strata: Sequence[Sequence[float]], resamples: int = RESAMPLES, seed: int = SEED
) -> Interval | None:
    """Mean over strata of the means of their values, with its percentile bootstrap interval.

    A resample draws from each stratum (a scene) as many values as it has, with replacement. The same seed and counts
    draw the same places: for the interval of a paired difference hand over the differences.

    Args:
        strata: values of each stratum; empty ones are left out.
        resamples: number of resamples.
        seed: of the draws.

    Returns:
        None where all strata are empty. Without ends where a stratum has a single value.
    """
    known = [np.asarray(values, dtype=np.float64) for values in strata if len(values)]
    if not known:
        return None
    mean, count = float(np.mean([values.mean() for values in known])), sum(map(len, known))
    if min(map(len, known)) < 2:
        return Interval(mean, None, None, count)
    generator = np.random.default_rng(seed)
    places = [generator.integers(len(values), size=(resamples, len(values))) for values in known]
    means = np.mean([values[drawn].mean(axis=1) for values, drawn in zip(known, places)], axis=0)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(mean, float(low), float(high), count)


def seed_interval(values: Sequence[float]) -> Interval | None:
    """Mean over seeds with the interval of Student's t distribution, mean +- t s / sqrt(n); None without values.

    Exact where the values are independent and normal. Without ends for a single seed.
    """
    if not len(values):
        return None
    known = np.asarray(values, dtype=np.float64)
    mean, count = float(known.mean()), len(known)
    if count < 2:
        return Interval(mean, None, None, count)
    margin = student_quantile(count - 1) * float(known.std(ddof=1)) / math.sqrt(count)
    return Interval(mean, mean - margin, mean + margin, count)


def student_quantile(freedom: int) -> float:
    """The t that encloses 95 % of Student's distribution: P(|T| <= t) = 0.95, found by halving.

    Args:
        freedom: degrees of freedom.

    Raises:
        ValueError: fewer than one.
    """
    if freedom < 1:
        raise ValueError(f"student_quantile: {freedom} degrees of freedom, must be at least 1")
    low, high = 0.0, math.pi / 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _enclosed(middle, freedom) < CONFIDENCE else (low, middle)
    return math.tan(low) * math.sqrt(freedom)


def _enclosed(angle: float, freedom: int) -> float:
    """P(|T| <= sqrt(freedom) tan(angle)): the finite sums of Abramowitz & Stegun, 26.7.3 (odd) and 26.7.4 (even)."""
    odd, cosine = freedom % 2, math.cos(angle)
    term, total = cosine**odd, 0.0
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total
