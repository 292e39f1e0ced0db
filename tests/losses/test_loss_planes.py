"""Plane regularisers: those of the fields that are rendered, of the scene at hand, and nothing else."""

from dataclasses import replace

import pytest
import torch
from toys import make_scene, simple_case, sliding_cameras, tiny_model

from semflow.losses.planes import plane_time, plane_variation


def case(model, index=0, **outputs):
    inputs = simple_case(**outputs)
    return replace(inputs, model=model, scene=replace(inputs.scene, index=index))


@pytest.fixture(scope="module")
def model():
    scenes = [make_scene(sliding_cameras(5)), make_scene(sliding_cameras(4))]
    model, _ = tiny_model(scenes, encoding="planes", flow_encoding="planes")
    with torch.no_grad():
        for number, plane in enumerate(model.dynamic.encoding.time):
            plane += number + torch.arange(plane.shape[2])[:, None] ** 2  # second differences of 2 everywhere
    return model


def test_variation_is_that_of_the_rendered_fields(model):
    static, dynamic, flow = (part.encoding.variation(0) for part in (model.static, model.dynamic, model.flow))
    torch.testing.assert_close(plane_variation(case(model)), dynamic + flow)
    torch.testing.assert_close(plane_variation(case(model, dynamic=None)), static)
    assert not torch.allclose(plane_variation(case(model, index=1)), plane_variation(case(model)))


def test_time_roughness_is_the_mean_squared_second_difference(model):
    for index in (0, 1):
        assert plane_time(case(model, index)).item() == pytest.approx(4.0)
    assert plane_time(case(model, dynamic=None)).item() == 0.0  # the static field has no time


def test_other_encodings_have_no_planes():
    model, _ = tiny_model([make_scene(sliding_cameras())])
    assert plane_variation(case(model)).item() == 0.0 == plane_time(case(model)).item()
