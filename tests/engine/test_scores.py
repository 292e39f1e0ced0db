"""Copying, scored on a scene of another program, gives the figures that came with it."""

import os
from pathlib import Path

import pytest
import torch

from semflow.config.schema import DataConfig
from semflow.data.loader import load_scene
from semflow.engine.protocols import HELD_OUT, PROTOCOLS
from semflow.engine.scores import ImageResult, ImageScores, make_group, mean, score_labels
from semflow.metrics.image import psnr
from semflow.records import LabelMap

SHARED = Path(os.environ.get("SEMFLOW_SHARED", Path(__file__).resolve().parents[2] / ".." / "shared" / "scenes"))
FOREIGN = SHARED / "foreign"


@pytest.mark.skipif(not (FOREIGN / "Parade").is_dir(), reason=f"{FOREIGN / 'Parade'} is absent")
def test_copying_on_parade_scores_the_stated_figures():
    protocol = PROTOCOLS["corrected"]
    scene = load_scene(DataConfig(dir=str(FOREIGN), scenes=("Parade",)), "Parade", "cpu")
    images = []
    for time, camera in ((t, c) for t in range(12) for c in range(12) if t != c):
        scores = score_labels(scene.labels[time], scene.truth.read_labels(time, camera), scene.label_map, protocol)
        colors = {"psnr": psnr(scene.rgb[time], scene.truth.read_rgb(time, camera))}
        scores = ImageScores(scores.metrics | colors, scores.confusion, scores.confusion_foreground, scores.objects)
        images.append(ImageResult(time, camera, HELD_OUT, HELD_OUT, scores, scores))
    found = make_group(images, HELD_OUT, scene.label_map, protocol).ours.metrics
    assert found["psnr"] == pytest.approx(19.1, abs=0.05)
    assert found["miou_foreground"] == pytest.approx(0.717, abs=5e-4)
    assert found["scene_miou_foreground_classes"] == pytest.approx(0.635, abs=5e-4)


def test_a_mean_leaves_out_what_is_not_known():
    assert mean([1.0, None, 2.0]) == 1.5
    assert mean([None]) is None and mean([]) is None


def test_scene_metrics_are_left_out_by_a_protocol_without_them():
    labels = torch.zeros(12, 12, dtype=torch.int64)
    label_map = LabelMap(("wall", "ball"), torch.zeros(2, 3, dtype=torch.uint8), (1,))
    scores = score_labels(labels, labels, label_map, PROTOCOLS["paper"])
    assert "boundary_iou" not in scores.metrics and not scores.objects


def test_a_class_that_a_setting_declares_static_stays_foreground_of_the_metrics():
    """Of walls, balls and crates, listed as foreground both, the crates stand still in this scene."""
    label_map = LabelMap(("wall", "ball", "crate"), torch.zeros(3, 3, dtype=torch.uint8), (1,), (1, 2))
    truth = torch.zeros(20, 20, dtype=torch.int64)
    truth[5:11, 5:11], truth[:, 15:] = 1, 2
    wrong = torch.where(truth == 2, 0, truth)  # no crate is found
    protocol, images = PROTOCOLS["corrected"], []
    for labels in (truth, wrong):
        scores = score_labels(labels, truth, label_map, protocol)
        assert set(scores.objects) == {1, 2}
        images.append(ImageResult(0, 1, HELD_OUT, HELD_OUT, scores, scores))
    assert images[1].ours.metrics["miou_foreground"] == pytest.approx((264 / 364 + 1 + 0) / 3)
    assert images[1].ours.metrics["boundary_iou_foreground"] == 0.5
    assert images[1].ours.objects[2].region == 0.0
    group = make_group(images, HELD_OUT, label_map, protocol).ours
    assert group.objects["ball"] == {"j": 1.0, "f": 1.0, "images": 2}
    assert group.objects["crate"] == {"j": 0.5, "f": 0.5, "images": 2}
    assert group.metrics["j"] == group.metrics["f"] == 0.75
    assert group.metrics["scene_miou_foreground_classes"] == pytest.approx((1 + 100 / 200) / 2)
