"""Reading depth, flow and poses, with values worked out by hand."""

import numpy as np
import pytest
from layout_fixture import disparity, poses_bounds, write_flow

from semflow.data.maps import read_disparity, read_flow, read_poses_bounds
from semflow.data.problems import BrokenFile


def test_disparity_ramp_stays_a_ramp_when_resized(tmp_path):
    np.save(tmp_path / "d.npy", disparity(1).astype(np.float64))
    resized = read_disparity(tmp_path / "d.npy", (12, 16))
    assert resized.dtype == np.float32
    centres = (np.arange(16) + 0.5) / 2 - 0.5  # in pixels of the file, clamped at the border
    np.testing.assert_allclose(resized[5], 10 + centres.clip(0, 7), atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_flow_vectors_are_rescaled_with_each_axis(tmp_path, dtype):
    write_flow(tmp_path / "f.npz", shape=(6, 8), vector=(1.5, -0.5), dtype=dtype)
    flow, mask = read_flow(tmp_path / "f.npz", (13, 16))
    assert flow.shape == (13, 16, 2) and flow.dtype == np.float32
    np.testing.assert_allclose(flow, np.broadcast_to([3.0, -0.5 * 13 / 6], (13, 16, 2)), rtol=1e-6)
    assert mask.dtype == bool and not mask[:2, :2].any() and mask[3:, 2:].all()


def test_flow_is_reduced_too(tmp_path):
    write_flow(tmp_path / "f.npz", shape=(12, 16), vector=(3.0, -1.0))
    flow, _ = read_flow(tmp_path / "f.npz", (6, 8))
    np.testing.assert_allclose(flow[3, 3], [1.5, -0.5])


def test_further_keys_and_bool_masks_are_fine(tmp_path):
    write_flow(tmp_path / "f.npz", mask=np.ones((6, 8), dtype=bool), mask_strict=np.zeros((6, 8)))
    flow, mask = read_flow(tmp_path / "f.npz")
    assert mask.all() and tuple(flow[0, 0]) == (1.5, -0.5)


BROKEN_FLOW = {
    "nan": ({"flow": np.full((6, 8, 2), np.nan)}, "NaN"),
    "transposed": ({"flow": np.zeros((2, 6, 8))}, "shape (2, 6, 8)"),
    "mask of another size": ({"mask": np.ones((3, 4))}, "mask has shape (3, 4)"),
    "complex": ({"flow": np.zeros((6, 8, 2), dtype=complex)}, "dtype complex128"),
    "pickled": ({"flow": np.array([None])}, "pickled"),
    "soft mask": ({"mask": np.full((6, 8), 0.5)}, "other values than 0 and 1"),
    "text": ({"mask": np.full((6, 8), "1")}, "dtype <U1"),
}


@pytest.mark.parametrize("kind", BROKEN_FLOW)
def test_broken_flow(tmp_path, kind):
    changed, words = BROKEN_FLOW[kind]
    write_flow(tmp_path / "f.npz", **changed)
    with pytest.raises(BrokenFile) as caught:
        read_flow(tmp_path / "f.npz", (6, 8))
    assert words in str(caught.value) and "f.npz" in str(caught.value)


def test_flow_without_mask_lists_the_keys(tmp_path):
    np.savez(tmp_path / "f.npz", flow=np.zeros((6, 8, 2)))
    with pytest.raises(BrokenFile, match="no array mask .it holds: flow."):
        read_flow(tmp_path / "f.npz")


def _changed(index, value):
    rows = poses_bounds()
    rows[index] = value
    return rows


BROKEN_POSES = {
    "missing bounds": (poses_bounds()[:, :15], "shape (3, 15)"),
    "too few rows": (poses_bounds()[:2], "2 rows for 3 frames"),
    "infinite": (_changed((1, 3), np.inf), "infinity in 1 place(s), first at [1, 3]"),
    "scaled rotation": (_changed((2, 1), 1.1), "row 2 holds no rotation"),
    "mirrored": (
        poses_bounds() * np.where(np.arange(17) % 5 == 1, -1, 1)[None] * np.r_[np.ones(15), 1, -1],
        "row 0 holds no rotation",
    ),
    "near behind far": (_changed((1, 15), 11.0), "near 11, far 10"),
    "near zero": (_changed((1, 15), 0.0), "near 0, far 10"),
    "no focal length": (_changed((0, 14), 0.0), "not positive"),
    "zoom": (_changed((1, 14), 30.0), "differ in image size or focal length"),
    "portrait": (_changed((slice(None), [4, 9]), [16.0, 12.0]), "aspect ratio"),
    "text": (poses_bounds().astype(str), "dtype"),
}


@pytest.mark.parametrize("kind", BROKEN_POSES)
def test_broken_poses(tmp_path, kind):
    rows, words = BROKEN_POSES[kind]
    np.save(tmp_path / "poses_bounds.npy", rows)
    with pytest.raises(BrokenFile) as caught:
        read_poses_bounds(tmp_path / "poses_bounds.npy", 3, (6, 8))
    assert words in str(caught.value)


def test_good_poses_come_back_unchanged(tmp_path):
    np.save(tmp_path / "poses_bounds.npy", poses_bounds().astype(np.float32))
    rows = read_poses_bounds(tmp_path / "poses_bounds.npy", 3, (6, 8))
    assert rows.dtype == np.float64
    np.testing.assert_allclose(rows, poses_bounds(), atol=1e-6)
