"""Samples asked in two halves, as rendering asks for them, are those asked at once, in every scene of a model."""

from dataclasses import replace

import pytest
import torch
from tiny_scene import TINY_ENCODER, tiny_context, tiny_model

CODED = {"scene_code": 3, "encoder": replace(TINY_ENCODER, kind="none")}
PLANES = {"encoding": "planes", "flow_encoding": "planes"}


def case(changes, index):
    """A model of two scenes whose planes and codes differ, one of the scenes, its maps and some points."""
    model = tiny_model(frames=(4, 4), **changes)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():  # codes, planes and blending no longer as they start
        torch.nn.init.normal_(parameter, std=0.8, generator=generator)
    scene = tiny_context(model, index)
    points = torch.rand(6, 3, generator=generator) - 0.5
    return model, scene, model.ready_maps(scene, [0, 1, 2], []), points


@pytest.mark.parametrize("changes", [CODED, PLANES])
@pytest.mark.parametrize("index", [0, 1])
def test_both_halves_of_static_samples_are_those_of_the_scene(changes, index):
    model, scene, maps, points = case(changes, index)
    whole = model.static_samples(scene, maps, points, points, 0)
    solid = model.static_solid(scene, maps, points, 0)
    rgb, logits = model.static_appearance(solid, points)
    for found, expected in ((solid.density, whole.density), (rgb, whole.rgb), (logits, whole.logits)):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("changes", [CODED, PLANES])
@pytest.mark.parametrize("index", [0, 1])
def test_both_halves_of_dynamic_samples_are_those_of_the_scene(changes, index):
    model, scene, maps, points = case(changes, index)
    track = model.track(scene, maps, points, 1)
    (whole,) = model.dynamic_samples(scene, maps, [track], [3])
    solid = model.dynamic_solid(scene, maps, track, 3)
    rgb, logits = model.dynamic_appearance(solid)
    pairs = (solid.density, whole.density), (solid.blend, whole.blend), (rgb, whole.rgb), (logits, whole.logits)
    for found, expected in pairs:
        torch.testing.assert_close(found, expected)
