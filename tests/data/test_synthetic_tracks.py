"""True tracks of synthetic scenes agree with the exact flow, and are only given for the scene in the folder."""

import json

import numpy as np
import pytest
import torch

from semflow.data.synthetic.arrange import build_scene
from semflow.data.synthetic.raycast import draw_all, make_view
from semflow.data.synthetic.scene import SceneSpec
from semflow.data.synthetic.tracks import find_scene, true_motion, true_tracks
from semflow.data.synthetic.truth import flow_between
from semflow.data.synthetic.writer import write_description
from semflow.data.writing import write_array
from semflow.utils.errors import DataError

HEIGHT, WIDTH = 18, 32
SPEC = SceneSpec("toy", frames=3, height=HEIGHT, width=WIDTH, without=("crate",), shift=(("ball", (0.1, 0.0, 0.0)),))


@pytest.fixture(scope="module")
def scene():
    return build_scene(SPEC)


@pytest.fixture(scope="module")
def surfaces(scene):
    return draw_all(scene.things, make_view(scene.cameras, 1, HEIGHT, WIDTH), 1.0, colored=False)


def test_one_step_is_the_exact_flow(scene, surfaces):
    truth = true_tracks(scene, 1, range(3), HEIGHT, WIDTH)
    pixels = scene.cameras.resized(HEIGHT, WIDTH).pixels().flatten(0, 1)
    for target in (0, 2):
        flow = flow_between(scene, surfaces, 1, target)
        torch.testing.assert_close(truth.uv[:, target] - pixels, flow.flow.flatten(0, 1), atol=1e-4, rtol=0)
        assert torch.equal(truth.visible[:, target], flow.visible.flatten())
    assert truth.hit.all() and truth.visible[:, 1].float().mean() > 0.99  # at the start every point is seen
    assert torch.equal(truth.moving, scene.moving()[surfaces.instance].flatten()) and truth.moving.any()


def test_watched_by_one_camera_what_stands_still_stays_in_place(scene):
    truth = true_tracks(scene, 0, (1, 1, 1), HEIGHT, WIDTH)
    way = (truth.uv - truth.uv[:, :1]).norm(dim=-1).amax(1)
    assert way[~truth.moving].max() < 1e-3 and way[truth.moving].median() > 0.5


def test_motion_is_that_of_the_tracks_watched_by_one_camera(scene):
    tracks = true_tracks(scene, 1, (2, 2, 2), HEIGHT, WIDTH)
    flow, valid = true_motion(scene, 1, 2, HEIGHT, WIDTH)
    torch.testing.assert_close(flow.flatten(0, 1), tracks.uv[:, 2] - tracks.uv[:, 1], atol=1e-4, rtol=0)
    assert torch.equal(valid.flatten(), tracks.moving & tracks.hit)
    assert true_motion(scene, 2, 0, HEIGHT, WIDTH) is None


def write_folder(folder, scene):
    depth = draw_all(scene.things, make_view(scene.cameras, 0, HEIGHT, WIDTH), 0.0, colored=False).depth.numpy()
    folder.mkdir(exist_ok=True)
    write_description(folder / "scene.json", SPEC, scene.things, np.zeros((3, 2)))
    write_array(folder / "truth" / "depth" / "000.npy", depth.astype(np.float32))
    return depth


def test_the_scene_is_made_again_from_its_description(scene, tmp_path):
    depth = write_folder(tmp_path, scene)
    assert find_scene(tmp_path).spec == SPEC
    write_array(tmp_path / "truth" / "depth" / "000.npy", 1.1 * depth)
    with pytest.raises(DataError, match="make-scene"):
        find_scene(tmp_path)


def test_other_scenes_have_no_true_tracks(tmp_path):
    assert find_scene(tmp_path) is None
    (tmp_path / "scene.json").write_text(json.dumps({"maker": "somebody else"}))
    assert find_scene(tmp_path) is None
