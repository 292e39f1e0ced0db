"""Whole scenes made from frames."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from semflow.config.schema import DataConfig
from semflow.data.check import check_scenes
from semflow.data.loader import load_scene
from semflow.data.prepare import PrepareSettings, filming, prepare_scene, scene
from semflow.data.prepare.structure import Lens, Structure
from semflow.data.synthetic import make_scene
from semflow.geometry.poses import cameras_from_llff, llff_to_opengl
from semflow.utils.errors import ConfigError, DataError

needs_colmap = pytest.mark.skipif(find_spec("pycolmap") is None, reason="pycolmap is not installed")
FRAMES = 6


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A synthetic scene whose frames are taken and whose exact maps are the truth."""
    return make_scene(tmp_path_factory.mktemp("truth"), "room", seed=3, frames=FRAMES, height=81, width=144, objects=("ball",))


def settings_of(room, root, **changes) -> PrepareSettings:
    given = {"source": room / "images", "root": root, "scene": "mine", "poses": room / "poses_bounds.npy"}
    return PrepareSettings(**given | changes)


def prepared(room, root, **changes):
    return prepare_scene(settings_of(room, root, **changes), say=lambda line: None)


@pytest.fixture(scope="module")
def made(room, tmp_path_factory):
    return prepared(room, tmp_path_factory.mktemp("mine"), label_moving=True)


@pytest.fixture(scope="module")
def both(room, made):
    """The prepared scene and the exact one, both at the size of the exact maps."""
    found = load_scene(DataConfig(dir=str(made.parent), factor=2), "mine")
    return found, load_scene(DataConfig(dir=str(room.parent), factor=2), "room")


def test_a_prepared_scene_is_in_order_and_says_where_it_comes_from(made, room):
    problems, (report,) = check_scenes(made.parent)
    assert not problems and not report.problems and "2 classes (may move: moving), 6 labelled frames" in report.summary
    record = json.loads((made / "prepare.json").read_text())
    assert 0 < record["explained_to_pixels"] < 0.3 and 0.01 < record["moving_share"] < 0.1
    assert record["settings"]["source"] == str(room / "images") and record["frames"] == [f"{i:03d}.png" for i in range(FRAMES)]
    np.testing.assert_array_equal(np.load(made / "poses_bounds.npy"), np.load(room / "poses_bounds.npy"))


def test_frames_stay_as_they_are(both):
    found, exact = both
    assert (found.rgb - exact.rgb).abs().max() < 2 / 255


def test_flow_masks_and_inverse_depth_come_near_the_exact_ones(both):
    found, exact = both
    seen = found.flow_forward_valid & exact.flow_forward_valid
    assert seen[:-1].float().mean() > 0.8
    assert (found.flow_forward - exact.flow_forward).norm(dim=-1)[seen].median() < 0.1
    assert (found.motion & exact.motion).sum() / (found.motion | exact.motion).sum() > 0.6  # it rolls, and fast: 0.67
    assert found.motion[exact.motion].float().mean() > 0.7
    still = ~found.motion & ~exact.motion
    for frame in range(FRAMES):  # the exact one has a scale and a shift of its own
        mine, true = found.disparity[frame][still[frame]], exact.disparity[frame][still[frame]]
        assert np.corrcoef(mine.numpy(), true.numpy())[0, 1] > 0.98


def test_labels_are_those_of_the_masks(both):
    found, _ = both
    assert found.label_map.names == ("background", "moving") and found.label_map.foreground == (1,)
    assert ((found.labels == 1) == found.motion).float().mean() > 0.99


def test_nothing_is_lost_and_nothing_half_made_stays(room, tmp_path, monkeypatch):
    folder = prepared(room, tmp_path, height=54)
    (folder / "SegmentationClass_train").mkdir()
    with pytest.raises(DataError, match="already exists; choose another name, or say --overwrite"):
        prepared(room, tmp_path, height=54)
    monkeypatch.setattr(scene, "inverse_depths", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepared(room, tmp_path, height=54, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"] and (folder / "SegmentationClass_train").is_dir()
    monkeypatch.undo()
    prepared(room, tmp_path, height=54, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "mine.bak-1"]
    assert (tmp_path / "mine.bak-1" / "SegmentationClass_train").is_dir() and not (folder / "SegmentationClass_train").exists()


def test_a_root_with_other_classes_keeps_them(room, tmp_path):
    (tmp_path / "labelmap.txt").write_text("# label\nbackground:0,0,0::\ncar:0,0,142::\n")
    with pytest.raises(DataError, match="labelmap.txt: holds other classes than background and moving"):
        prepared(room, tmp_path, label_moving=True)
    assert not (tmp_path / "mine").exists()
    assert "car" in (tmp_path / "labelmap.txt").read_text()


@pytest.mark.parametrize(("changes", "message"), [
    ({"colmap": "x"}, "--poses and --colmap both name cameras"),
    ({"straight": True}, "--focal and --straight are for cameras that are still to be found"),
    ({"source": Path(__file__)}, "poses_bounds.npy: belongs to the images of a folder"),
    ({"poses": None, "colmap": Path("m"), "source": Path(__file__)}, "--colmap m: belongs to the images of a folder"),
    ({"scene": "a/b"}, "--scene 'a/b'"),
    ({"scene": ".."}, "--scene '..'"),
    ({"frames": 1}, "--frames 1: must be at least 2"),
    ({"focal": 0.0, "poses": None}, "--focal 0.0: must be at least 1"),
])
def test_bad_settings_name_the_option(room, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        settings_of(room, tmp_path, **changes)


def test_poses_of_other_frames_are_refused(room, tmp_path):
    with pytest.raises(DataError, match="has 6 rows for 3 frames"):
        prepared(room, tmp_path, frames=3)
    assert not list(tmp_path.iterdir())


def model_of(room, names) -> Structure:
    """What COLMAP would have found of the scene."""
    rows = np.load(room / "poses_bounds.npy")
    c2w = llff_to_opengl(rows[:, :15].reshape(-1, 3, 5)[:, :, :4]) * np.array([1, -1, -1, 1.0])
    w2c = np.concatenate([c2w[:, :, :3].transpose(0, 2, 1), -np.einsum("tji,tj->ti", c2w[:, :, :3], c2w[:, :, 3])[..., None]], -1)
    focal, (height, width) = rows[0, 14], rows[0, [4, 9]].astype(int)
    lens = Lens(np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]]), np.zeros(4), (int(height), int(width)))
    seen = np.stack(np.meshgrid(np.arange(len(rows)), np.arange(12), indexing="ij"), -1).reshape(-1, 2)
    points = c2w[0, :, 3] + np.linspace(rows[0, 15], rows[0, 16], 12)[:, None] * c2w[0, :, 2]
    return Structure(tuple(names), w2c, lens, points, seen)


def test_a_model_of_colmap_gives_the_cameras_of_its_images_by_their_names(room, tmp_path, monkeypatch):
    """Here the model lists them in another order, and has one more."""
    names = [f"{i:03d}.png" for i in range(FRAMES)]
    order = [3, 0, 5, 1, 4, 2]
    model = replace(model_of(room, names), names=(*(names[i] for i in order), "other.png"))
    model = replace(model, w2c=model.w2c[[*order, 0]])
    monkeypatch.setattr(filming, "read_model", lambda folder: model)
    folder = prepared(room, tmp_path, poses=None, colmap=tmp_path, height=81)
    rows, exact = np.load(folder / "poses_bounds.npy"), np.load(room / "poses_bounds.npy")
    np.testing.assert_allclose(rows[:, :15], exact[:, :15], atol=1e-9)
    assert cv2.imread(str(folder / "images" / "000.png")).shape == (81, 144, 3)
    loaded = load_scene(DataConfig(dir=str(tmp_path), factor=1), "mine")
    assert loaded.cameras.focal == pytest.approx(exact[0, 14] / 2)
    monkeypatch.setattr(filming, "read_model", lambda folder: model_of(room, [*names[:-1], "other.png"]))
    with pytest.raises(DataError, match="has no camera for 005.png of .*, and for 1 of its 6 images in all"):
        prepared(room, tmp_path, poses=None, colmap=tmp_path, scene="second")


def test_a_model_of_larger_images_is_scaled(room, tmp_path, monkeypatch):
    names = [f"{i:03d}.png" for i in range(FRAMES)]
    model = model_of(room, names)
    monkeypatch.setattr(filming, "read_model", lambda folder: replace(model, lens=model.lens.scaled((324, 576))))
    folder = prepared(room, tmp_path, poses=None, colmap=tmp_path)
    np.testing.assert_allclose(np.load(folder / "poses_bounds.npy")[:, :15], np.load(room / "poses_bounds.npy")[:, :15], atol=1e-6)


def test_rounds_cover_what_moves_and_the_best_one_is_kept(room, tmp_path, monkeypatch):
    """Without COLMAP: the first round's cameras are wrong by a degree, the second's right, the third finds none."""
    truth = model_of(room, [f"{i:03d}.png" for i in range(FRAMES)])
    truth = replace(truth, lens=truth.lens.scaled((81, 144)))
    turn, _ = cv2.Rodrigues(np.array([0.0, np.radians(1.0), 0.0]))
    wrong = truth.w2c.copy()
    wrong[::2, :, :3] = turn @ wrong[::2, :, :3]
    wrong[::2, :, 3] = wrong[::2, :, 3] @ turn.T
    asked = []

    def reconstruct(images, sources, subject, focal, masks, straight):
        asked.append((focal, masks))
        if len(asked) == 3:
            raise DataError("nothing is left")
        return replace(truth, w2c=wrong) if len(asked) == 1 else truth

    said = []
    monkeypatch.setattr(filming, "reconstruct", reconstruct)
    monkeypatch.setattr(filming, "adjusted", lambda cameras, flows: cameras)
    folder = prepare_scene(settings_of(room, tmp_path, poses=None, focal=495.36, height=81), say=said.append)
    assert [focal for focal, _ in asked] == pytest.approx([247.68] * 3)  # the frames are half as wide as those of the source
    assert asked[0][1] is None and np.shape(asked[1][1]) == (FRAMES, 81, 144) and np.mean(asked[1][1]) > np.mean(asked[2][1]) > 0
    assert any("round 3: no cameras without what moves (nothing is left)" in line for line in said)
    found, exact = (cameras_from_llff(np.load(f / "poses_bounds.npy"), 81, 144).c2w for f in (folder, room))
    assert (found[:, :, :3] - exact[:, :, :3]).abs().max() < 1e-4


def test_cameras_that_do_not_move_or_are_wrong_are_not_passed_over(room, tmp_path):
    rows = np.load(room / "poses_bounds.npy")
    np.save(tmp_path / "same.npy", np.repeat(rows[:1], FRAMES, 0))
    with pytest.raises(DataError, match="no depth can be told: the cameras do not move"):
        prepared(room, tmp_path / "root", poses=tmp_path / "same.npy")
    np.save(tmp_path / "reversed.npy", rows[::-1])
    said = []
    prepare_scene(settings_of(room, tmp_path / "root", poses=tmp_path / "reversed.npy"), say=said.append)
    assert any(line.startswith("warning: these cameras explain half of the flow to") for line in said)


def test_flow_is_written_with_what_it_does_not_know(made, room):
    """Where the next frame does not show a pixel, its flow does not count."""
    with np.load(made / "flow" / "002_fwd.npz") as own, np.load(room / "flow" / "002_fwd.npz") as exact:
        seen = cv2.resize(exact["mask"].astype(np.uint8), own["mask"].shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
        assert own["mask"][seen].mean() > 0.85 and own["mask"][~seen].mean() < 0.3


@needs_colmap
def test_cameras_are_found_in_rounds(room, tmp_path):
    said = []
    prepare_scene(settings_of(room, tmp_path, poses=None, straight=True, focal=247.68), say=said.append)
    rounds = [line for line in said if "focal length" in line]
    assert 2 <= len(rounds) <= 3 and all("247.7" in line for line in rounds)
    found = load_scene(DataConfig(dir=str(tmp_path), factor=2), "mine")
    exact = load_scene(DataConfig(dir=str(room.parent), factor=2), "room")
    assert (found.motion & exact.motion).sum() / (found.motion | exact.motion).sum() > 0.55
    turns = found.cameras.c2w[:, :, :3].transpose(1, 2) @ exact.cameras.c2w[:, :, :3]
    assert turns.diagonal(dim1=1, dim2=2).sum(-1).min() > 1 + 2 * np.cos(np.radians(1.5))
    assert found.cameras.focal == pytest.approx(exact.cameras.focal, rel=1e-3)
