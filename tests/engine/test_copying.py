"""Copying: the frame of the same time, labels of the nearest labelled frame."""

import torch
from evaluation_fakes import make_scene, true_labels, true_rgb

from semflow.engine.copying import CopyingRenderer

WHAT = frozenset({"rgb", "semantic"})


def copied(scene, time, camera=3, what=WHAT):
    return CopyingRenderer({scene.name: scene}).render(scene.name, scene.cameras, camera, float(time), what)


def test_the_frame_of_the_time_is_shown_unmoved():
    view = copied(make_scene(), 1)
    assert torch.equal(view.rgb, true_rgb(1, 1)) and torch.equal(view.labels, true_labels(1, 1))
    assert view.flow is None


def test_labels_come_from_the_nearest_labelled_frame():
    scene = make_scene(labelled=(0, 2))
    assert torch.equal(copied(scene, 3).labels, true_labels(2, 2))
    assert torch.equal(copied(scene, 1).labels, true_labels(0, 0))  # equally near: the earlier
    assert torch.equal(copied(scene, 3).rgb, true_rgb(3, 3))


def test_without_labels_there_are_no_logits_and_nothing_moves():
    view = copied(make_scene(labelled=()), 1, what=WHAT | {"flow"})
    assert view.logits is None and not view.flow.any()
