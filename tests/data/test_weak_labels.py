"""Weak labels: how many pixels, where in their regions, and that nothing else is kept."""

import cv2
import numpy as np
import pytest

from semflow.data.weak_labels import centre_discs, kept_pixels, thin_curves


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def blobs(seed: int, threshold: float = 0.0, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    """A random mask of a few irregular regions with holes."""
    noise = generator(seed).standard_normal(size).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 3) > threshold * 0.1


def regions(mask: np.ndarray, connectivity: int = 8) -> int:
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=connectivity)[0] - 1


def label_image() -> np.ndarray:
    """Three classes and pixels without label."""
    labels = np.where(blobs(1), 1, 0)
    labels[5:20, 5:20] = 7
    labels[30:, :10] = -1
    return labels


@pytest.mark.parametrize("fraction, count", [(0.1, 20), (0.004, 1), (0.0, 1), (1.0, 200)])
def test_fraction_keeps_so_many_of_the_labelled_pixels(fraction, count):
    labels = np.full((20, 20), 3)
    labels[:10] = -1
    kept = kept_pixels(labels, "fraction", fraction, generator())
    assert kept.sum() == count and not kept[:10].any()


def test_fraction_follows_its_generator():
    first, again, other = (kept_pixels(label_image(), "fraction", 0.05, generator(seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("kind", ["scribbles", "box_centre"])
def test_every_region_of_every_class_keeps_something_and_nothing_outside(kind):
    labels = label_image()
    kept = kept_pixels(labels, kind, 1.0, generator())
    assert not kept[labels < 0].any() and 0 < kept.sum() < 0.25 * (labels >= 0).sum()
    for identity in (0, 1, 7):
        count, numbers = cv2.connectedComponents((labels == identity).astype(np.uint8), connectivity=8)
        assert count > 1 and all(kept[numbers == region].any() for region in range(1, count))


@pytest.mark.parametrize("kind", ["full", "fraction", "scribbles", "box_centre"])
def test_a_frame_without_labels_stays_without(kind):
    assert not kept_pixels(np.full((4, 5), -1), kind, 0.5, generator()).any()


def test_full_keeps_all():
    assert np.array_equal(kept_pixels(label_image(), "full", 1.0, generator()), label_image() >= 0)


@pytest.mark.parametrize("seed", range(4))
def test_curves_are_thin_and_as_connected_as_their_regions(seed):
    mask = blobs(seed)
    curve = thin_curves(mask)
    assert regions(curve) == regions(mask) > 0 and not (curve & ~mask).any()
    assert regions(~np.pad(curve, 1), 4) == regions(~np.pad(mask, 1), 4)  # holes stay holes, none is added
    assert np.array_equal(thin_curves(curve), curve)
    full = curve[:-1, :-1] & curve[1:, :-1] & curve[:-1, 1:] & curve[1:, 1:]
    assert full.sum() <= 0.05 * curve.sum()  # a block of 2 x 2 pixels only where branches meet


def test_the_curve_of_a_bar_is_its_axis():
    mask = np.zeros((15, 40), bool)
    mask[4:11, 3:37] = True
    curve = thin_curves(mask)
    assert np.array_equal(np.argwhere(curve[:, 12:28])[:, 0], np.full(16, 7))


def test_the_disc_lies_on_the_pixel_of_the_region_nearest_to_the_centre_of_its_box():
    mask = np.zeros((30, 30), bool)
    mask[2:23, 2:4] = mask[21:23, 2:23] = True  # an L: the centre (12, 12) of its box is not in it
    mask[5:8, 20:25] = True
    kept = centre_discs(mask)
    rows, columns = np.indices(mask.shape)
    near = [(rows - y) ** 2 + (columns - x) ** 2 <= 1 for y, x in ((12, 3), (6, 22))]
    assert np.array_equal(kept, mask & (near[0] | near[1]))


def test_the_disc_grows_with_the_image_and_stays_in_its_region():
    mask = np.zeros((200, 400), bool)
    mask[50:101, 100:200] = mask[50:101, 202:203] = True
    kept = centre_discs(mask)
    rows, columns = np.indices(mask.shape)
    assert np.array_equal(kept[:, :200], ((rows - 75) ** 2 + (columns - 149) ** 2 <= 16)[:, :200])
    assert kept[:, 202].sum() == 9 and not kept[:, 203:].any()
