"""Lenses, and cameras from structure from motion."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from semflow.data.maps import read_poses_bounds
from semflow.data.prepare import structure
from semflow.data.prepare.structure import Lens, Structure, checked, read_model, reconstruct, require_size
from semflow.data.synthetic import make_scene
from semflow.geometry.poses import cameras_from_llff, llff_to_opengl, world_scale
from semflow.utils.errors import DataError

H, W = 60, 80
needs_colmap = pytest.mark.skipif(find_spec("pycolmap") is None, reason="pycolmap is not installed")


def lens(k: float = 0.0, fx: float = 70.0, fy: float = 70.0, cx: float = W / 2, cy: float = H / 2) -> Lens:
    return Lens(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), np.array([k, 0.0, 0.0, 0.0]), (H, W))


def toy_structure(found: Lens) -> Structure:
    """Three cameras that turn and move, and points in front of them; each sees all."""
    rng = np.random.default_rng(1)
    points = rng.uniform((-1, -1, 3), (1, 1, 6), (50, 3))
    w2c = []
    for angle in (-0.1, 0.0, 0.15):
        rotation, _ = cv2.Rodrigues(np.array([0.3 * angle, angle, 0.5 * angle]))
        w2c.append(np.concatenate([rotation, [[4 * angle], [0.1], [angle]]], axis=1))
    seen = np.stack(np.meshgrid(np.arange(3), np.arange(50), indexing="ij"), -1).reshape(-1, 2)
    return Structure(("a", "b", "c"), np.stack(w2c), found, points, seen)


def test_a_straight_lens_leaves_images_as_they_are():
    image = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)
    (found,), focal = lens().straightened([image])
    assert found is image and focal == pytest.approx(70.0) and lens().bend() < 1e-4


@pytest.mark.parametrize("k", [-0.1, 0.08])
def test_a_bent_lens_is_straightened_by_the_closed_form(k):
    """A straight pixel at distance r from the axis is read at r (1 + k r^2), in units of the focal length."""
    own = lens(k)
    focal = own.straight_focal()
    columns, rows = own.maps(focal)
    for x, y in ((0, 0), (79, 59), (40, 30), (10, 50)):
        u, v = (x + 0.5 - W / 2) / focal, (y + 0.5 - H / 2) / focal
        factor = 1 + k * (u * u + v * v)
        assert columns[y, x] == pytest.approx(70 * u * factor + W / 2 - 0.5, abs=1e-3)
        assert rows[y, x] == pytest.approx(70 * v * factor + H / 2 - 0.5, abs=1e-3)
    assert own.bend() > 0.5
    inside = (columns >= -0.51) & (columns <= W - 0.49) & (rows >= -0.51) & (rows <= H - 0.49)
    assert inside.mean() > 0.995  # nothing that the lens has not seen


def test_an_axis_beside_the_middle_and_wide_pixels_are_put_right():
    own = lens(fx=80.0, fy=60.0, cx=44.0, cy=28.0)
    focal = own.straight_focal()
    columns, rows = own.maps(focal)
    assert columns[30, 50] == pytest.approx(80 * (50.5 - W / 2) / focal + 44.0 - 0.5, abs=1e-3)
    assert rows[10, 20] == pytest.approx(60 * (10.5 - H / 2) / focal + 28.0 - 0.5, abs=1e-3)
    assert columns.min() >= -0.6 and columns.max() <= W - 0.4 and rows.min() >= -0.6 and rows.max() <= H - 0.4


def test_a_mask_is_bent_back_onto_the_image_that_the_lens_took():
    own = lens(0.2)
    straight = np.zeros((H, W), bool)
    straight[4:12, 6:20] = True
    taken = own.bent(straight)
    again = cv2.remap(taken.astype(np.uint8), *own.maps(own.straight_focal()), cv2.INTER_NEAREST) > 0
    assert (again & straight).sum() / (again | straight).sum() > 0.85
    assert (taken != straight).any()
    assert np.array_equal(lens().bent(straight), straight)


def test_rows_project_points_where_structure_from_motion_does(tmp_path):
    """The LLFF row of each camera, read as training reads it, against K [R | t]."""
    found = toy_structure(lens())
    rows = found.poses_bounds(70.0, (H, W))
    np.save(tmp_path / "poses_bounds.npy", rows)
    cameras = cameras_from_llff(read_poses_bounds(tmp_path / "poses_bounds.npy", 3, (H, W)), H, W)
    scale = world_scale(rows)
    first = llff_to_opengl(rows[:, :15].reshape(3, 3, 5)[:, :, :4])[0]
    for frame in range(3):
        local = found.points @ found.w2c[frame, :, :3].T + found.w2c[frame, :, 3]
        expected = local[:, :2] / local[:, 2:] * 70.0 + np.array([W / 2, H / 2])
        at_first = (found.points - first[:, 3]) @ first[:, :3] * scale  # in the first camera's frame, which is not re-centred
        world = torch.tensor(at_first, dtype=torch.float32) @ cameras.c2w[0, :, :3].T + cameras.c2w[0, :, 3]
        uv, in_front = cameras.project(world, frame)
        assert in_front.all() and np.abs(uv.numpy() - expected).max() < 1e-2


def test_bounds_are_the_depths_that_a_frame_sees():
    found = toy_structure(lens())
    depth = found.points @ found.w2c[1, 2, :3] + found.w2c[1, 2, 3]
    near, far = found.bounds()[1]
    assert depth.min() <= near <= depth.min() + 0.05 and depth.max() - 0.05 <= far <= depth.max()
    seen = found.seen[(found.seen[:, 0] != 1) | (found.seen[:, 1] < 12)]
    assert replace(found, seen=seen).bounds()[1][1] == pytest.approx(np.percentile(depth[:12], 99.5))
    behind = replace(found, points=np.concatenate([found.points, [[0.0, 0.0, -9.0]]]), seen=np.concatenate([found.seen, [[1, 50]]]))
    np.testing.assert_allclose(behind.bounds(), found.bounds())
    with pytest.raises(DataError, match="b: its camera sees 3 points of the model, fewer than 10; leave the frame out"):
        replace(found, seen=found.seen[(found.seen[:, 0] != 1) | (found.seen[:, 1] < 3)]).bounds()


def test_a_part_of_a_model_has_the_order_that_is_asked_for():
    found = toy_structure(lens())
    found = replace(found, seen=found.seen[found.seen[:, 1] >= 10 * found.seen[:, 0]])
    part = found.of(["c", "a"])
    assert part.names == ("c", "a")
    np.testing.assert_array_equal(part.w2c, found.w2c[[2, 0]])
    for new, old in ((0, 2), (1, 0)):
        assert set(part.seen[part.seen[:, 0] == new, 1]) == set(found.seen[found.seen[:, 0] == old, 1])


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_a_lens_of_another_size_bends_alike(ratio):
    own = lens(0.1, cx=42.0)
    other = own.scaled((int(H * ratio), int(W * ratio)))
    assert other.straight_focal() == pytest.approx(own.straight_focal() * ratio, rel=2e-3)
    assert other.matrix[0, 2] == pytest.approx(42.0 * ratio) and other.matrix[2, 2] == 1
    assert other.bend() == pytest.approx(own.bend() * ratio, rel=0.1)


def test_a_lens_of_another_shape_is_refused(tmp_path):
    require_size(tmp_path, lens(), (2 * H, 2 * W))
    with pytest.raises(DataError, match="its images are 80x60, the frames 60x80"):
        require_size(tmp_path, lens(), (W, H))


def answer(**changes) -> dict[str, np.ndarray]:
    row = np.array([70.0, 70.0, 40.0, 30.0, 0, 0, 0, 0])
    return {"names": np.array(["0.png", "1.png"]), "w2c": np.zeros((2, 3, 4)), "intrinsics": np.stack([row, row]),
            "sizes": np.array([[H, W], [H, W]]), "points": np.zeros((0, 3)), "seen": np.zeros((0, 2), int)} | changes


def test_frames_of_several_cameras_are_refused():
    assert checked(Path("model"), answer()).lens.size == (H, W)
    other = answer()["intrinsics"].copy()
    other[1, 0] = 90
    for changes in ({"intrinsics": other}, {"sizes": np.array([[H, W], [H, W + 8]])}):
        with pytest.raises(DataError, match="model: its images have different cameras"):
            checked(Path("model"), answer(**changes))


def test_without_pycolmap_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(structure, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install"):
        read_model(tmp_path)


def test_frames_that_cannot_be_placed_are_named_as_the_user_knows_them(monkeypatch):
    blank = [np.zeros((H, W, 3), np.uint8)] * 3
    found = replace(toy_structure(lens()), names=("000000.png", "000002.png"))
    monkeypatch.setattr(structure, "ask", lambda work, subject, remedy, **request: found)
    with pytest.raises(DataError, match=r"film.mp4: 1 of 3 frames could not be placed \(0.500 s\)"):
        reconstruct(blank, ["0.000 s", "0.500 s", "1.000 s"], Path("film.mp4"))


def test_colmap_sees_the_images_and_looks_for_nothing_where_the_masks_are_true(monkeypatch):
    """Its masks are black where nothing is to be found, and have the image's whole name before their own ending."""
    asked = {}

    def look(work, subject, remedy, **request):
        asked.update(request)
        asked["image"] = cv2.imread(f"{request['images']}/000001.png")
        asked["mask"] = cv2.imread(f"{request['masks']}/000001.png.png", cv2.IMREAD_GRAYSCALE) if request["masks"] else None
        return replace(toy_structure(lens()), names=("000000.png", "000001.png", "000002.png"))

    monkeypatch.setattr(structure, "ask", look)
    images = [np.full((H, W, 3), (10 * i, 100, 200), np.uint8) for i in range(3)]
    masks = [np.zeros((H, W), bool) for _ in range(3)]
    masks[1][5:9, 20:30] = True
    found = reconstruct(images, ["x", "y", "z"], Path("film.mp4"), focal=75.0, masks=masks)
    assert found.names == ("x", "y", "z")
    assert asked["image"][0, 0].tolist() == [200, 100, 10]
    assert (asked["mask"] == np.where(masks[1], 0, 255)).all()
    assert asked["camera_params"] == [75.0, W / 2, H / 2, 0.0] and not asked["refine_focal"]
    reconstruct(images, ["x", "y", "z"], Path("film.mp4"), straight=True)
    assert asked["camera_params"] == [] and asked["refine_focal"] and asked["camera_model"] == "SIMPLE_PINHOLE" and not asked["masks"]


@needs_colmap
def test_images_without_anything_to_see_give_no_cameras(tmp_path):
    blank = [np.full((H, W, 3), 90, np.uint8)] * 2
    with pytest.raises(DataError, match="film.mp4: COLMAP gives no cameras .*the camera must move") as error:
        reconstruct(blank, ["0 s", "1 s"], Path("film.mp4"))
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="COLMAP gives no cameras .*give the folder with cameras.bin"):
        read_model(tmp_path)


def write_text_model(folder: Path, camera: str) -> None:
    """A sparse model of two images, b.png before a.png: camera 1 at the origin, camera 2 turned by 90 degrees about y and moved."""
    seen = [f"{10 * i + 5}.5 20.5 {i + 1}" for i in range(4)]
    half = np.sqrt(0.5)
    (folder / "cameras.txt").write_text(f"1 {camera}\n")
    (folder / "images.txt").write_text(f"1 1 0 0 0 0 0 0 1 b.png\n{' '.join(seen)}\n"
                                       f"2 {half} 0 {half} 0 1 2 3 1 a.png\n{' '.join(seen)}\n"
                                       f"3 1 0 0 0 0 0 1 1 c.png\n{' '.join(seen)}\n")
    tracks = [f"{i + 1} {i} 0 5 0 0 0 {error} 1 {i} 2 {i}{rest}" for i, (error, rest) in
              enumerate(((0.5, " 3 0"), (0.5, " 3 1"), (3.0, " 3 2"), (0.5, "")))]
    (folder / "points3D.txt").write_text("\n".join(tracks) + "\n")


@needs_colmap
@pytest.mark.parametrize(("camera", "matrix", "distortion"), [
    ("RADIAL 80 60 70 41 29 0.1 0.01", (70, 70, 41, 29), (0.1, 0.01, 0, 0)),
    ("OPENCV 80 60 70 72 41 29 0.1 0.01 0.002 0.003", (70, 72, 41, 29), (0.1, 0.01, 0.002, 0.003)),
    ("SIMPLE_RADIAL 80 60 70 41 29 0.1", (70, 70, 41, 29), (0.1, 0, 0, 0)),
])
def test_a_model_of_colmap_is_read_image_by_image(tmp_path, camera, matrix, distortion):
    """Points of large error, and those of two frames alone, do not count."""
    write_text_model(tmp_path, camera)
    found = read_model(tmp_path)
    fx, fy, cx, cy = matrix
    np.testing.assert_allclose(found.lens.matrix, [[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    np.testing.assert_allclose(found.lens.distortion, distortion)
    assert found.lens.size == (60, 80) and found.names == ("a.png", "b.png", "c.png")
    np.testing.assert_allclose(found.w2c[0], [[0, 0, 1, 1], [0, 1, 0, 2], [-1, 0, 0, 3]], atol=1e-12)
    np.testing.assert_allclose(found.w2c[1], np.eye(4)[:3])
    assert sorted(found.points.tolist()) == [[0, 0, 5], [1, 0, 5]]
    assert sorted(map(tuple, found.seen.tolist())) == [(f, p) for f in range(3) for p in range(2)]


@needs_colmap
def test_a_lens_that_cannot_be_straightened_is_named(tmp_path):
    write_text_model(tmp_path, "OPENCV_FISHEYE 80 60 70 72 41 29 0.1 0.01 0.002 0.003")
    with pytest.raises(DataError, match="camera model OPENCV_FISHEYE is none of SIMPLE_PINHOLE"):
        read_model(tmp_path)


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        read_model(tmp_path / "nowhere")


@needs_colmap
def test_cameras_of_a_synthetic_scene_are_found(tmp_path):
    """Up to a similarity: directions between camera centres, and turns, are those of the scene."""
    scene = make_scene(tmp_path, "room", seed=3, frames=6, height=81, width=144, objects=("ball",))
    names = sorted(path.name for path in (scene / "images").iterdir())
    images = [cv2.imread(str(scene / "images" / name))[..., ::-1] for name in names]
    found = reconstruct(images, names, scene, straight=True)
    true = llff_to_opengl(np.load(scene / "poses_bounds.npy")[:, :15].reshape(-1, 3, 5)[:, :, :4])
    own = found.c2w()
    turn = own[0, :, :3] @ true[0, :, :3].T
    for frame in range(6):
        rest = turn @ true[frame, :, :3] @ own[frame, :, :3].T
        assert np.degrees(np.arccos(np.clip((np.trace(rest) - 1) / 2, -1, 1))) < 2.0
    steps = [centres - centres.mean(0) for centres in (own[:, :, 3], true[:, :, 3] @ turn.T)]
    cosine = (steps[0] * steps[1]).sum() / np.sqrt((steps[0] ** 2).sum() * (steps[1] ** 2).sum())
    assert cosine > 0.995
    assert (found.bounds()[:, 0] > 0).all() and found.names == tuple(f"{i:03d}.png" for i in range(6))
