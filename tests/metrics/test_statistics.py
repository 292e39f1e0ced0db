"""Confidence intervals against closed forms, published quantiles and their own promise: 95 % of them hold the truth."""

import math

import numpy as np
import pytest

from semflow.metrics.statistics import (
    Interval,
    bootstrap_interval,
    seed_interval,
    stratified_interval,
    student_quantile,
)

# two-sided 95 %: Abramowitz & Stegun, table 26.10; NIST/SEMATECH e-handbook, 1.3.6.7.2
PUBLISHED = {
    1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228,
    11: 2.201, 12: 2.179, 15: 2.131, 20: 2.086, 25: 2.060, 30: 2.042, 60: 2.000, 100: 1.984,
}


@pytest.mark.parametrize("freedom, expected", PUBLISHED.items())
def test_t_quantiles_are_the_published_ones(freedom, expected):
    assert student_quantile(freedom) == pytest.approx(expected, abs=5.01e-4)


def test_t_quantiles_have_closed_forms_for_1_and_2_and_end_in_the_normal_one():
    assert student_quantile(1) == pytest.approx(math.tan(0.475 * math.pi), rel=1e-12)
    assert student_quantile(2) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)), rel=1e-12)
    assert student_quantile(5_000) == pytest.approx(1.959964, abs=6e-4)
    with pytest.raises(ValueError, match="0 degrees"):
        student_quantile(0)


def test_seed_interval_worked_by_hand():
    found = seed_interval([1.0, 2.0, 3.0])  # s = 1
    assert (found.mean, found.count) == (2.0, 3)
    assert found.high - 2.0 == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)
    assert found.low + found.high == pytest.approx(4.0)


@pytest.mark.parametrize("interval", [seed_interval, bootstrap_interval])
def test_one_value_has_no_interval_and_none_has_no_mean(interval):
    assert interval([0.7]) == Interval(0.7, None, None, 1)
    assert interval([]) is None
    assert interval([0.5, 0.5, 0.5]) == Interval(0.5, 0.5, 0.5, 3)


def coverage(interval, size: int, draws: int) -> float:
    """Share of samples of a normal distribution whose interval holds its mean."""
    samples = np.random.default_rng(5).normal(3.0, 2.0, (draws, size))
    return np.mean([found.low <= 3.0 <= found.high for found in map(interval, samples)])


def test_intervals_over_seeds_hold_the_truth_95_times_in_100():
    assert coverage(seed_interval, 3, 4000) == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors


def test_bootstrap_intervals_hold_the_truth_about_95_times_in_100():
    assert coverage(bootstrap_interval, 60, 400) == pytest.approx(0.945, abs=0.035)  # 3 standard errors


def test_the_bootstrap_of_many_normal_values_is_the_normal_interval():
    values = np.random.default_rng(1).normal(size=400)
    found = bootstrap_interval(values, resamples=8_000)
    margin = 1.959964 * values.std() / math.sqrt(400)
    assert found.mean == pytest.approx(values.mean())
    assert found.high - found.mean == pytest.approx(margin, rel=0.05)
    assert found.mean - found.low == pytest.approx(margin, rel=0.05)


def test_the_bootstrap_is_repeatable_moves_with_its_values_and_depends_on_its_seed():
    values = np.random.default_rng(2).random(30)
    one, moved = bootstrap_interval(values), bootstrap_interval(3.0 - 2.0 * values)
    assert one == bootstrap_interval(list(values)) and one != bootstrap_interval(values, seed=1)
    assert moved.mean == pytest.approx(3.0 - 2.0 * one.mean)
    ends = (3.0 - 2.0 * one.high, 3.0 - 2.0 * one.low)  # a quantile of the mirrored draws
    assert (moved.low, moved.high) == pytest.approx(ends, abs=1e-9)


def test_scenes_count_alike_whatever_their_number_of_images():
    found = stratified_interval([[1.0] * 2, [0.0] * 50, []])
    assert found == Interval(0.5, 0.5, 0.5, 52)
    assert stratified_interval([[1.0], [0.0, 1.0]]) == Interval(0.75, None, None, 3)
    assert stratified_interval([[], []]) is None
    spread = np.random.default_rng(3).normal(size=(2, 300))
    both = stratified_interval(spread)
    assert both.high - both.low == pytest.approx(2 * 1.959964 * spread.std() / math.sqrt(600), rel=0.1)
