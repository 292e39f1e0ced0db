"""Synthetic scenes: the files of a whole scene, read back with nothing but the layout."""

import argparse
import json

import cv2
import numpy as np
import pytest
import torch

from semflow.cli import make_scene as cli
from semflow.config.schema import DataConfig
from semflow.data.loader import load_scene
from semflow.data.synthetic import NoiseSpec, make_scene
from semflow.data.synthetic.arrange import build_scene
from semflow.data.synthetic.classes import CLASSES, MOVING
from semflow.data.synthetic.raycast import nearest
from semflow.data.synthetic.scene import SceneSpec
from semflow.geometry.poses import cameras_from_llff
from semflow.utils.errors import ConfigError, DataError

SIZE = {"frames": 3, "height": 24, "width": 32}
KINDS = ("balloon", "ball", "crate", "flag")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    make_scene(folder, "room", seed=4, objects=KINDS, **SIZE)
    return folder


@pytest.fixture(scope="module")
def room(root):
    return root / "room"


def read_rgb(path):
    return cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1]


def read_labels(path):
    colors = np.array(list(CLASSES.values()))
    same = (read_rgb(path)[:, :, None] == colors).all(-1)
    assert same.any(-1).all(), "a colour outside the label map"
    return same.argmax(-1)


def read_flow(folder, source, direction):
    archive = np.load(folder / "flow" / f"{source:03d}_{direction}.npz")
    return torch.tensor(archive["flow"]), torch.tensor(archive["mask"]) > 0


def scaled_cameras(folder):
    """Cameras as the trainer sees them, and the factor from metric depth to their world."""
    rows = np.load(folder / "poses_bounds.npy")
    cameras = cameras_from_llff(rows, SIZE["height"], SIZE["width"])
    return cameras, float(cameras.near[0]) / rows[0, 15]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def changed(first, second):
    """Top-level names of the files that differ."""
    one, two = contents(first), contents(second)
    assert one.keys() == two.keys()
    return {name.split("/")[0] for name in one if one[name] != two[name]}


def test_layout_is_complete(root, room):
    assert (root / "labelmap.txt").read_text().splitlines()[1] == "background:0,0,0::"
    assert (root / "foreground_object.txt").read_text().split() == list(MOVING)
    for place, suffix in (("images", "png"), ("images_2", "png"), ("disp", "npy"), ("motion_masks", "png"),
                          ("SegmentationClass_train", "png"), ("truth/depth", "npy"), ("truth/multiview", "npz")):
        assert sorted(p.name for p in (room / place).iterdir()) == [f"{i:03d}.{suffix}" for i in range(3)]
    names = ["000_fwd.npz", "001_bwd.npz", "001_fwd.npz", "002_bwd.npz"]
    assert sorted(p.name for p in (room / "flow").iterdir()) == names
    for place, suffix in (("multiview_GT", "jpg"), ("multiview_GT_semantic", "png")):
        for time in (1, 2, 3):
            found = sorted(p.name for p in (room / place / f"{time:08d}").iterdir())
            assert found == [f"cam{c:02d}.{suffix}" for c in (1, 2, 3)]
    assert read_rgb(room / "images/000.png").shape == (48, 64, 3)
    assert read_rgb(room / "images_2/000.png").shape == (24, 32, 3)
    assert [p for p in root.iterdir() if p.name.startswith(".")] == []


def test_every_object_is_seen_in_every_frame_and_has_texture(room):
    for frame in range(3):
        labels = read_labels(room / f"SegmentationClass_train/{frame:03d}.png")
        motion = cv2.imread(str(room / f"motion_masks/{frame:03d}.png"), cv2.IMREAD_GRAYSCALE) > 0
        moving = [list(CLASSES).index(kind) for kind in KINDS]
        assert set(moving) <= set(np.unique(labels))
        np.testing.assert_array_equal(motion, np.isin(labels, moving))
        assert not (labels == 0).any()
        assert read_rgb(room / f"images_2/{frame:03d}.png")[~motion].std() > 20


def test_small_images_are_block_averages_of_the_large(room):
    large = read_rgb(room / "images/001.png").astype(float).reshape(24, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(large - read_rgb(room / "images_2/001.png")).max() <= 1.01


def test_disparity_is_affine_in_inverse_depth_with_its_own_scale_per_frame(room):
    fits = []
    for frame in range(3):
        depth, disparity = (np.load(room / place / f"{frame:03d}.npy").astype(float) for place in ("truth/depth", "disp"))
        fits.append(np.polyfit(1 / depth.ravel(), disparity.ravel(), 1))
        np.testing.assert_allclose(np.polyval(fits[-1], 1 / depth), disparity, rtol=1e-5)
        assert fits[-1][0] > 0
    assert np.ptp([fit[0] for fit in fits]) > 1
    np.testing.assert_allclose(fits, json.loads((room / "scene.json").read_text())["disparity_scale_and_shift"], rtol=1e-3)


def test_bounds_hold_every_depth_tightly(room):
    rows = np.load(room / "poses_bounds.npy")
    depth = np.stack([np.load(room / f"truth/multiview/{t:03d}.npz")["depth"] for t in range(3)]).astype(float)
    low, high = depth.min((0, 2, 3)), depth.max((0, 2, 3))
    assert (rows[:, 15] < low).all() and (rows[:, 15] > 0.95 * low).all()
    assert (rows[:, 16] > high).all() and (rows[:, 16] < 1.05 * high).all()


@pytest.mark.parametrize(("source", "target", "direction"), [(0, 1, "fwd"), (1, 2, "fwd"), (2, 1, "bwd")])
def test_flow_of_still_pixels_is_the_cameras_motion(room, source, target, direction):
    cameras, scale = scaled_cameras(room)
    depth = torch.tensor(np.load(room / f"truth/depth/{source:03d}.npy")) * scale
    motion = torch.tensor(cv2.imread(str(room / f"motion_masks/{source:03d}.png"), cv2.IMREAD_GRAYSCALE)) > 0
    uv, in_front = cameras.project(cameras.lift(cameras.pixels(), depth, source), target)
    flow, mask = read_flow(room, source, direction)
    assert in_front.all() and flow[~motion].norm(dim=-1).max() > 1
    torch.testing.assert_close((uv - cameras.pixels())[~motion], flow[~motion], rtol=0, atol=2e-3)
    assert (uv - cameras.pixels() - flow)[motion].norm(dim=-1).max() > 1  # moving pixels do something else
    assert not mask[~cameras.inside(uv) & ~motion].any() and mask.float().mean() > 0.5


def test_forward_then_backward_flow_returns(room):
    forward, visible = read_flow(room, 0, "fwd")
    backward, _ = read_flow(room, 1, "bwd")
    labels = [torch.tensor(read_labels(room / f"SegmentationClass_train/{i:03d}.png")) for i in (0, 1)]
    y, x = torch.meshgrid(torch.arange(24), torch.arange(32), indexing="ij")
    landed = torch.stack([x, y], dim=-1) + forward  # in units of pixel indices
    low = landed.floor().long()
    fits = visible & (low >= 0).all(-1) & (low[..., 0] < 31) & (low[..., 1] < 23)
    errors, kinds = [], set()
    for row, column in fits.nonzero().tolist():
        i, j = low[row, column, 1], low[row, column, 0]
        if (labels[1][i:i + 2, j:j + 2] != labels[0][row, column]).any():
            continue  # bilinear reading would mix two surfaces
        share = landed[row, column] - low[row, column]
        patch = backward[i:i + 2, j:j + 2]
        column_mix = patch[:, 0] * (1 - share[0]) + patch[:, 1] * share[0]
        back = column_mix[0] * (1 - share[1]) + column_mix[1] * share[1]
        errors.append(float((forward[row, column] + back).norm()))
        kinds.add(int(labels[0][row, column]))
    assert len(errors) > 350
    assert len(kinds & {list(CLASSES).index(kind) for kind in KINDS}) >= 2
    assert np.mean(errors) < 0.1 and np.quantile(errors, 0.98) < 0.5


def test_truth_of_a_training_view_is_the_training_frame(room):
    for frame in range(3):
        place = f"{frame + 1:08d}/cam{frame + 1:02d}"
        image = read_rgb(room / f"images/{frame:03d}.png").astype(float)
        error = read_rgb(room / f"multiview_GT/{place}.jpg") - image
        other = read_rgb(room / f"multiview_GT/{(frame + 1) % 3 + 1:08d}/cam{frame + 1:02d}.jpg") - image
        assert np.sqrt((error**2).mean()) < 6 < np.sqrt((other**2).mean())
        archive = np.load(room / f"truth/multiview/{frame:03d}.npz")
        labels = read_labels(room / f"SegmentationClass_train/{frame:03d}.png")
        np.testing.assert_array_equal(archive["labels"][frame], labels)
        np.testing.assert_allclose(archive["depth"][frame], np.load(room / f"truth/depth/{frame:03d}.npy"), rtol=1e-3)
        full = read_labels(room / f"multiview_GT_semantic/{place}.png")
        np.testing.assert_array_equal(full, labels.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize(("time", "camera"), [(0, 0), (2, 1)])
def test_label_truth_is_what_rays_through_pixel_centres_of_the_frames_meet(room, time, camera):
    scene = build_scene(SceneSpec("room", 4, **SIZE, objects=KINDS))
    c2w, focal = scene.cameras.c2w[camera].double(), scene.cameras.resized(24, 32).focal
    y, x = torch.meshgrid(torch.arange(24).double() + 0.5, torch.arange(32).double() + 0.5, indexing="ij")
    local = torch.stack([(x - 16) / focal, (12 - y) / focal, -torch.ones_like(x)], dim=-1)
    _, instance = nearest(scene.things, c2w[:, 3], (local @ c2w[:, :3].T).reshape(-1, 3), float(time))
    met = scene.class_ids()[instance].numpy().reshape(24, 32)
    assert (met[1:] != met[:-1]).sum() > 50
    labels = read_labels(room / f"multiview_GT_semantic/{time + 1:08d}/cam{camera + 1:02d}.png")
    np.testing.assert_array_equal(labels, met.repeat(2, 0).repeat(2, 1))


def test_truth_of_a_training_view_as_an_evaluation_reads_it_is_its_training_labels(root):
    scene = load_scene(DataConfig(dir=str(root)), "room")
    for frame in range(3):
        np.testing.assert_array_equal(scene.truth.read_labels(frame, frame), scene.labels[frame])


def test_same_seed_same_bytes_other_seed_other_scene(root, tmp_path):
    again = make_scene(tmp_path, "room", seed=4, objects=KINDS, **SIZE)
    assert changed(again, root / "room") == set()
    other = make_scene(tmp_path, "other", seed=5, objects=KINDS, **SIZE)
    assert {"images", "disp", "flow", "multiview_GT"} <= changed(other, root / "room")


@pytest.mark.parametrize(("noise", "touched"), [
    (NoiseSpec(flow=0.05), {"flow"}), (NoiseSpec(depth=0.05), {"disp"}),
    (NoiseSpec(poses=0.01), {"poses_bounds.npy"}), (NoiseSpec(labels=0.1), {"SegmentationClass_train"})])
def test_noise_changes_only_what_it_names(room, tmp_path, noise, touched):
    noisy = make_scene(tmp_path, "room", seed=4, objects=KINDS, noise=noise, **SIZE)
    assert changed(noisy, room) == touched | {"scene.json"}


def test_noise_has_the_size_asked_for(room, tmp_path):
    noisy = make_scene(tmp_path, "room", seed=4, objects=KINDS, noise=NoiseSpec(0.1, 0.05, 0.01, 0.2), **SIZE)
    (flow, mask), (exact, exact_mask) = read_flow(noisy, 0, "fwd"), read_flow(room, 0, "fwd")
    assert torch.equal(mask, exact_mask)
    assert float((flow - exact).std()) == pytest.approx(0.1 * float(exact.square().sum(-1).mean().sqrt()), rel=0.1)
    wrong = read_labels(noisy / "SegmentationClass_train/000.png") != read_labels(room / "SegmentationClass_train/000.png")
    assert wrong.mean() == pytest.approx(0.2, abs=0.05)
    rows, truth = np.load(noisy / "poses_bounds.npy"), np.load(noisy / "truth/poses_bounds.npy")
    np.testing.assert_array_equal(truth, np.load(room / "poses_bounds.npy"))
    shift = (rows - truth)[:, [3, 8, 13]]
    assert 0.3 < shift.std() / (0.01 * truth[:, 15].min()) < 3
    axes = rows[:, :15].reshape(3, 3, 5)[:, :, :3]
    np.testing.assert_allclose(axes @ axes.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (3, 3, 3)), atol=1e-12)


def test_nothing_is_overwritten_unasked(root, tmp_path):
    before = contents(root)
    with pytest.raises(DataError, match="room.*--overwrite"):
        make_scene(root, "room", seed=9, **SIZE)
    assert contents(root) == before
    strange = tmp_path / "mine"
    strange.mkdir()
    (strange / "notes.txt").write_text("keep me")
    with pytest.raises(DataError, match="never overwritten"):
        make_scene(tmp_path, "mine", overwrite=True, **SIZE)
    assert (strange / "notes.txt").read_text() == "keep me"


def test_overwrite_replaces_a_synthetic_scene_whole(tmp_path):
    tiny = {"frames": 2, "height": 8, "width": 12, "objects": ("ball",)}
    folder = make_scene(tmp_path, "room", **tiny)
    (folder / "stale.txt").write_text("old")
    make_scene(tmp_path, "room", seed=1, overwrite=True, **tiny)
    assert not (folder / "stale.txt").exists()
    assert json.loads((folder / "scene.json").read_text())["spec"]["seed"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["foreground_object.txt", "labelmap.txt", "room"]


def test_unusable_root_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="file.*another root"):
        make_scene(tmp_path / "file", "room", **SIZE)


@pytest.mark.parametrize("name", ["labelmap.txt", "foreground_object.txt"])
def test_other_classes_in_the_root_are_refused(tmp_path, name):
    (tmp_path / name).write_text("cat\n")
    with pytest.raises(DataError, match=name):
        make_scene(tmp_path, "room", **SIZE)
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize(("change", "message"), [
    ({"frames": 1}, "frames = 1"), ({"height": 4}, "height = 4"), ({"objects": ("cat",)}, "cat.*balloon"),
    ({"objects": ()}, "objects is empty"), ({"name": "../x"}, "name")])
def test_wrong_values_are_named(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        make_scene(tmp_path, **({"name": "room"} | SIZE | change))
    with pytest.raises(ConfigError, match="noise_flow"):
        NoiseSpec(flow=-1.0)


def test_command_line_reaches_the_maker(tmp_path):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    args = parser.parse_args(["--root", str(tmp_path), "--name", "small", "--frames", "2", "--height", "8", "--width", "12",
                              "--objects", "2", "--noise-labels", "0.5", "--seed", "3"])
    assert cli.run(args) == 0
    spec = json.loads((tmp_path / "small/scene.json").read_text())["spec"]
    assert spec["objects"] == ["balloon", "ball"] and spec["seed"] == 3 and spec["noise"]["labels"] == 0.5
