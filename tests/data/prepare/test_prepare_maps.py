"""Motion masks and inverse depth from exact flow, and flow itself."""

import cv2
import numpy as np
import pytest
import torch
from torchvision.models.optical_flow import raft_large

from semflow.data.prepare.disparity import along_time, inverse_depths, spread, standing
from semflow.data.prepare.flow import Flow, dis_flow, flows_between, raft_flow
from semflow.data.prepare.motion import cleaned, fit_frames, motion_masks, unexplained
from semflow.geometry.cameras import Cameras
from semflow.utils.errors import CheckpointError

H, W, T, FOCAL, WALL, STEP = 96, 160, 4, 120.0, 4.0, 0.3
TOP, LEFT, HIGH, WIDE = 30, 60, 30, 40  # of what may move, in frame 0
SQUARE = (slice(TOP, TOP + HIGH), slice(LEFT, LEFT + WIDE))


def row_of_cameras() -> Cameras:
    """Cameras side by side that look at a wall at depth 4."""
    c2w = torch.eye(4)[:3].repeat(T, 1, 1)
    c2w[:, 0, 3] = STEP * torch.arange(T)
    return Cameras(c2w, FOCAL, H, W, torch.full((T,), 2.0), torch.full((T,), 6.0))


def square_at(frame: int, motion: tuple[float, float], left: int = LEFT) -> tuple[slice, slice]:
    """Where the square is that moves by `motion` beside the wall's own shift."""
    x = round(left + frame * (motion[0] - FOCAL * STEP / WALL))
    y = round(TOP + frame * motion[1])
    return slice(max(0, y), max(0, y + HIGH)), slice(max(0, x), max(0, x + WIDE))


def flows(motion: tuple[float, float] | None = None, reach: int = 2, left: int = LEFT) -> dict[tuple[int, int], Flow]:
    """Exact flow of the wall; a square before it also moves by `motion` pixels per frame."""
    found = {}
    for here in range(T):
        for there in range(max(0, here - reach), min(T, here + reach + 1)):
            if here != there:
                vectors = torch.zeros(H, W, 2)
                vectors[..., 0] = -FOCAL * STEP * (there - here) / WALL
                if motion is not None:
                    vectors[square_at(here, motion, left)] += (there - here) * torch.tensor(motion)
                found[here, there] = Flow(vectors, torch.ones(H, W, dtype=torch.bool))
    return found


def truth() -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[SQUARE] = True
    return mask


def masks_of(found: dict) -> np.ndarray:
    cameras = row_of_cameras()
    return motion_masks(fit_frames(found, cameras), found, cameras)


@pytest.mark.parametrize("motion", [(0.0, 3.0), (2.0, -2.0), (15.0, 0.0)])
def test_what_leaves_its_epipolar_line_or_would_lie_behind_the_camera_moves(motion):
    """(15, 0) goes along the line, against the parallax of anything in front."""
    for frame, mask in enumerate(masks_of(flows(motion))):
        moving = np.zeros((H, W), bool)
        moving[square_at(frame, motion)] = True
        assert (mask & moving).sum() / (mask | moving).sum() > 0.7  # the wall behind it votes too: no flow here is invalid
        assert mask[moving].mean() > 0.95


def test_what_could_only_be_at_rest_before_everything_else_moves():
    """-22 pixels a frame along the line: a point at rest at depth 1.16, where the near bound is 2."""
    near, far = (-22.0, 0.0), (-4.0, 0.0)
    assert masks_of(flows(near, left=115))[1][square_at(1, near, 115)].mean() > 0.95
    assert not masks_of(flows(far, left=115)).any()  # at rest at depth 2.8, for all one can see


def test_nothing_moves_where_everything_is_at_rest_even_if_little_is_seen():
    found = flows()
    assert not masks_of(found).any()
    nowhere = {pair: Flow(flow.vectors, torch.zeros_like(flow.valid)) for pair, flow in found.items()}
    assert not masks_of(nowhere).any()
    assert np.isnan(unexplained(fit_frames(nowhere, row_of_cameras())[0], row_of_cameras(), 0).numpy()).all()


def test_frames_outvote_a_mistake_of_one():
    found = flows()
    wrong = found[1, 2].vectors.clone()
    wrong[SQUARE] += torch.tensor([0.0, 2.4])  # one of three flows of frame 1: its error is over the limit
    found[1, 2] = Flow(wrong, found[1, 2].valid)
    assert float(unexplained(fit_frames(found, row_of_cameras())[1], row_of_cameras(), 1).max()) > 0.34
    assert not masks_of(found).any()


def test_specks_and_small_holes_vanish():
    ballots = np.stack([truth() * 3.0, np.full((H, W), 3.0)], -1)
    ballots[45:48, 78:81, 0] = 0  # a hole
    ballots[5, 5, 0] = 3  # a speck
    found = cleaned(ballots.astype(np.float32), W / 480)
    assert found[45:48, 78:81].all() and not found[:20, :20].any()


def test_the_depth_of_the_wall_is_found_and_what_moves_stands_on_what_is_below():
    found, cameras = flows((0.0, 3.0)), row_of_cameras()
    fits = fit_frames(found, cameras)
    motion = np.stack([truth()] * T)
    frames = [np.full((H, W, 3), 120, np.uint8)] * T
    for depth in inverse_depths(fits, found, cameras, motion, frames):
        assert depth.shape == (H, W) and depth.dtype == np.float32
        np.testing.assert_allclose(depth, 1 / WALL, rtol=1e-3)


def test_a_moving_region_gets_the_inverse_depth_just_below_its_feet():
    ramp = np.repeat(np.linspace(0.1, 1.0, H)[:, None], W, 1).astype(np.float32)  # a floor
    found = standing(ramp, truth())
    inside = found[SQUARE]
    assert inside.std() < 1e-6 and ramp[58, 0] < inside[0, 0] < ramp[64, 0]
    assert np.array_equal(found[~truth()], ramp[~truth()])
    everything = np.ones((H, W), bool)
    assert np.array_equal(standing(ramp, everything), ramp)  # nothing below it is known


def test_depth_of_what_moves_is_averaged_along_its_flow_and_nothing_else_is():
    """The square keeps its pixels' depth on its way, and the wall stays."""
    motion, moving = (0.0, 3.0), np.zeros((T, H, W), bool)
    depth = np.full((T, H, W), 0.25, np.float32)
    for frame, value in enumerate((0.5, 0.5, 0.9, 0.5)):
        moving[frame][square_at(frame, motion)] = True
        depth[frame][square_at(frame, motion)] = value
    found = along_time(torch.from_numpy(depth), torch.from_numpy(moving), flows(motion)).numpy()
    assert (found[~moving] == 0.25).all()
    inside = [found[frame][square_at(frame, motion)][5:-5, 5:-5] for frame in range(T)]
    assert max(part.std() for part in inside) < 1e-4
    means = [float(part.mean()) for part in inside]
    assert max(means) - min(means) < 0.01 and 0.55 < means[0] < 0.65


def test_values_spread_along_colours():
    """Left half dark, right half bright; each is known in a few pixels only."""
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[:, 32:] = 220
    values, trust = np.zeros((64, 64), np.float32), np.zeros((64, 64), np.float32)
    values[::8, 2:30:7], trust[::8, 2:30:7] = 1.0, 1.0
    values[::8, 35:62:7], trust[::8, 35:62:7] = 3.0, 1.0
    found = spread(values, trust, frame)
    assert np.abs(found[:, :28] - 1).max() < 0.5 and np.abs(found[:, 36:] - 3).max() < 0.5
    assert np.abs(np.diff(found, axis=1)[:, 31]).min() > 1.2  # the edge stays at the edge of colour
    np.testing.assert_allclose(spread(np.full((64, 64), 2.0, np.float32), trust, frame), 2.0, rtol=1e-5)
    assert np.isfinite(spread(values, np.zeros_like(trust), frame)).all()  # nothing is known at all


def textured(shift: int) -> np.ndarray:
    """Smooth noise, moved to the right by some pixels."""
    noise = np.random.default_rng(0).random((H // 4, W // 4 + 16, 3)).astype(np.float32)
    large = cv2.resize(noise, ((W // 4 + 16) * 4, H), interpolation=cv2.INTER_CUBIC)
    return (large[:, 32 - shift : 32 - shift + W] * 255).clip(0, 255).astype(np.uint8)


def test_dis_finds_a_shift_in_both_directions_and_says_where_it_holds():
    found = flows_between([textured(0), textured(5), textured(10)], 2, dis_flow())
    assert sorted(found) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    for (here, there), flow in found.items():
        shift = 5 * (there - here)
        inside = flow.vectors[16:-16, 24:-24]
        assert (inside - torch.tensor([shift, 0.0])).norm(dim=-1).median() < 0.1
        assert flow.valid[16:-16, 24:-24].float().mean() > 0.95
        assert not flow.valid[:, -3:].any() if shift > 0 else not flow.valid[:, :3].any()


def test_raft_takes_any_size_and_only_its_own_weights(tmp_path):
    torch.manual_seed(0)
    torch.save(raft_large(weights=None).state_dict(), tmp_path / "raft.pth")
    flow = raft_flow(tmp_path / "raft.pth", torch.device("cpu"))
    first, second = (np.random.default_rng(i).integers(0, 256, (130, 141, 3), dtype=np.uint8) for i in range(2))
    found = flow(first, second)
    assert found.shape == (130, 141, 2) and torch.isfinite(found).all()
    torch.save({"other": torch.zeros(1)}, tmp_path / "wrong.pth")
    with pytest.raises(CheckpointError, match="missing"):
        raft_flow(tmp_path / "wrong.pth", torch.device("cpu"))
    with pytest.raises(CheckpointError, match="--flow dis|no such weight file"):
        raft_flow(tmp_path / "none.pth", torch.device("cpu"))
