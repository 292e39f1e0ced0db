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
