"""Motion masks and inverse depth from exact flow, and flow itself."""

import cv2
import numpy as np
import pytest
import torch
from torchvision.models.optical_flow import raft_large

from semflow.data.prepare import flow as flow_module
from semflow.data.prepare.adjustment import adjusted, moved
from semflow.data.prepare.disparity import along_time, inverse_depths, spread, standing
from semflow.data.prepare.flow import Flow, dis_flow, flows_between, raft_flow
from semflow.data.prepare.motion import cleaned, errors_of, fit_frames, motion_masks, unexplained
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
    return motion_masks(errors_of(fit_frames(found, cameras), cameras), found)


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


def test_neighbours_that_move_alike_share_their_depth_and_others_keep_theirs():
    """Two things that touch and move apart, with noise on their depth; beside them the wall."""
    found = flows((0.0, 3.0))
    for (here, there), flow in found.items():
        flow.valid[:] = False  # smoothing beside alone
        rows, columns = square_at(here, (0.0, 3.0))
        flow.vectors[rows, columns.start : columns.start + 20] += (there - here) * torch.tensor([6.0, 0.0])
    moving = np.zeros((T, H, W), bool)
    depth = np.full((T, H, W), 0.25, np.float32)
    for frame in range(T):
        rows, columns = square_at(frame, (0.0, 3.0))
        moving[frame, rows, columns] = True
        depth[frame, rows, columns.start : columns.start + 20] = 0.5
        depth[frame, rows, columns.start + 20 : columns.stop] = 0.8
    noise = np.random.default_rng(0).normal(0, 0.05, depth.shape).astype(np.float32) * moving
    again = along_time(torch.from_numpy(depth + noise), torch.from_numpy(moving), found).numpy()
    assert (again[~moving] == 0.25).all()
    rest = np.abs(again - depth)[moving]
    assert rest.mean() < 0.015 and rest.max() < 0.06 and np.abs(noise[moving]).max() > 0.15


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
    first, second = (np.random.default_rng(i).integers(0, 256, (60, 141, 3), dtype=np.uint8) for i in range(2))
    found = flow(first, second)
    assert found.shape == (60, 141, 2) and torch.isfinite(found).all()
    torch.save({"other": torch.zeros(1)}, tmp_path / "wrong.pth")
    with pytest.raises(CheckpointError, match="missing"):
        raft_flow(tmp_path / "wrong.pth", torch.device("cpu"))
    with pytest.raises(CheckpointError, match="no such weight file; .* leave out --raft-weights"):
        raft_flow(tmp_path / "none.pth", torch.device("cpu"))


def test_raft_gets_the_first_frame_first_with_values_from_minus_one_to_one(tmp_path, monkeypatch):
    seen = []

    class Network(torch.nn.Module):
        def forward(self, first, second, updates):
            seen.extend([first, second])
            return [torch.zeros(1, 2, *first.shape[2:])]

    monkeypatch.setattr(flow_module, "raft_large", lambda weights: Network())
    torch.save({"x": torch.zeros(1)}, tmp_path / "raft.pth")
    monkeypatch.setattr(flow_module, "load_weights", lambda *arguments: None)
    raft_flow(tmp_path / "raft.pth", torch.device("cpu"))(np.zeros((128, 136, 3), np.uint8), np.full((128, 136, 3), 255, np.uint8))
    assert (seen[0] == -1).all() and (seen[1] == 1).all()


def test_noisy_flow_of_points_at_rest_does_not_move():
    found = flows()
    generator = torch.Generator().manual_seed(0)
    noisy = {pair: Flow(flow.vectors + 0.25 * torch.randn(H, W, 2, generator=generator), flow.valid) for pair, flow in found.items()}
    assert not np.mean(masks_of(noisy)) > 0.02


def test_wrong_flow_that_is_known_to_be_wrong_does_not_vote():
    found = flows((0.0, 3.0))
    trusted = masks_of(found)
    for (here, there), flow in list(found.items()):
        if abs(here - there) == 2:
            found[here, there] = Flow(flow.vectors + 40.0, torch.zeros_like(flow.valid))
    again = masks_of(found)
    assert (again & trusted).sum() / (again | trusted).sum() > 0.85


def test_a_far_background_is_far_and_at_rest():
    """Depth 200 behind the wall at 4: next to no parallax of its own, but the cameras are far enough apart to know."""
    found, cameras = flows(), row_of_cameras()
    for (here, there), flow in found.items():
        flow.vectors[:40] *= WALL / 200
    fits = fit_frames(found, cameras)
    motion = motion_masks(errors_of(fits, cameras), found)
    assert not motion.any()
    for depth in inverse_depths(fits, found, cameras, motion, [np.full((H, W, 3), 120, np.uint8)] * T):
        np.testing.assert_allclose(depth[:36], 1 / 200, atol=2e-3)
        np.testing.assert_allclose(depth[44:], 1 / WALL, rtol=1e-2)


def test_rays_that_part_a_little_meet_at_infinity_and_do_not_move():
    found = flows()
    for (here, there), flow in found.items():
        flow.vectors[..., 0] = 0.05 * (there - here)  # against the parallax of anything in front, but within the noise
    assert not masks_of(found).any()


def test_cameras_are_adjusted_to_the_flow_and_what_moves_does_not_matter():
    """Poses disturbed by half a degree and a tenth of a step come back, but for what no flow tells: a similarity."""
    true, found = row_of_cameras(), flows((0.0, 3.0))
    generator = torch.Generator().manual_seed(3)
    turn, move = (torch.randn(T, 3, generator=generator) for _ in range(2))
    wrong = moved(true, 0.005 * turn, 0.1 * move)
    again = adjusted(wrong, found)
    errors = [float(errors_of(fit_frames(found, cameras), cameras).nanmedian()) for cameras in (wrong, again)]
    assert errors[0] > 1.0 and errors[1] < 0.1
    relative = [cameras.c2w[0, :, :3].T @ cameras.c2w[-1, :, :3] for cameras in (true, wrong, again)]
    degrees = [float(torch.rad2deg(torch.acos(((relative[0].T @ other).trace().clamp(max=3) - 1) / 2))) for other in relative[1:]]
    assert degrees[1] < 0.5 * degrees[0]
    assert again.focal == true.focal and torch.equal(again.near, true.near)
