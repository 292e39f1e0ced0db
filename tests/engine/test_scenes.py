"""What is kept of a scene, and a scene on disk against that of a checkpoint."""

from dataclasses import replace

import pytest
import torch
from toys import make_scene, sliding_cameras

from semflow.data.supervision import supervise
from semflow.engine.scenes import KeptScene, TrainingScene, kept, require_same_scene
from semflow.records import LabelMap
from semflow.utils.errors import DataError

CAMERAS = sliding_cameras(3, height=135, width=240)
SCENE = make_scene(CAMERAS)
KEPT = KeptScene("toy", SCENE.rgb, CAMERAS, None, SCENE.label_map, None)
NO_CLASSES = LabelMap((), torch.zeros(0, 3, dtype=torch.uint8), ())


@pytest.mark.parametrize("changes", [
    {}, {"cameras": CAMERAS.resized(270, 480)}, {"cameras": CAMERAS.resized(68, 120)},  # the same view, reduced to whole pixels
    {"label_map": NO_CLASSES}])
def test_what_can_be_judged_is_taken(changes):
    assert require_same_scene(KEPT, replace(SCENE, **changes), "root") is None


@pytest.mark.parametrize(("changes", "said"), [
    ({"label_map": LabelMap(SCENE.label_map.names[::-1], SCENE.label_map.colors, (1,))}, "classes"),
    ({"rgb": SCENE.rgb[:2]}, "2 frames, the checkpoint was trained on 3"),
    ({"cameras": CAMERAS.resized(240, 240)}, "240x240, the checkpoint was trained on 240x135")])
def test_another_scene_is_refused_by_name(changes, said):
    with pytest.raises(DataError, match=rf"^root/{SCENE.name}: .*{said}.*--data_dir"):
        require_same_scene(KEPT, replace(SCENE, **changes), "root")


def test_another_size_is_refused_where_pixels_are_compared():
    with pytest.raises(DataError, match="480x270"):
        require_same_scene(KEPT, replace(SCENE, cameras=CAMERAS.resized(270, 480)), "root", same_size=True)


def test_what_is_kept_of_a_scene_is_what_its_cues_and_geometry_were():
    numbers = torch.rand(SCENE.disparity.shape, generator=torch.Generator().manual_seed(0))
    scene = replace(SCENE, disparity=numbers, motion=numbers > 0.5)
    training = TrainingScene(scene, supervise(scene, False, (0,)))
    found = kept(training, with_cues=True)
    assert torch.equal(found.cues.surface_u, training.supervision.surface_u) and found.cues.surface_u.std() > 0.1
    assert found.cues.motion.is_floating_point() and torch.equal(found.cues.motion, scene.motion.float())
    assert found.name == scene.name and torch.equal(found.rgb, scene.rgb) and found.label_map is scene.label_map
    assert found.cameras is scene.cameras and found.space is scene.space
    assert kept(training, with_cues=False).cues is None
