"""The part of a scene around a frame: networks find in it what they find in the whole scene."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

import pytest
import torch
from tiny_scene import TINY_ENCODER, TINY_SAMPLING, TinyImageEncoder, tiny_batch, tiny_context, tiny_model
from toys import rendered

from semflow.engine.replays import taken_apart
from semflow.fields.flow import Timeline
from semflow.models import semantic_flow
from semflow.models.scene_context import SceneContext
from semflow.rendering.renderer import Branches, Renderer

FRAMES = 7
EVERYTHING = Branches(static=True, dynamic=True, full=True, track=True, neighbours=True, second_track=True)


@pytest.fixture
def image_features(monkeypatch):
    """Models get the tiny image encoder in the static branch: the source frame matters."""
    monkeypatch.setattr(semantic_flow, "build_image_encoder", lambda config, seed: TinyImageEncoder())


def assert_same(one, other) -> None:
    """Two records hold the same tensors, but for the number of the frame, which counts from another start."""
    if isinstance(one, torch.Tensor):
        torch.testing.assert_close(other, one)
    elif is_dataclass(one):
        for item in fields(one):
            if item.name != "frame":
                assert_same(getattr(one, item.name), getattr(other, item.name))
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    else:
        assert one == other


@pytest.mark.parametrize("changes", [
    {}, {"flow_length": 5, "flow_substeps": 2}, {"encoding": "planes", "flow_encoding": "planes"}, {"aggregator": "point"},
    {"encoder": replace(TINY_ENCODER, surface_cues=True)}, {"encoder": replace(TINY_ENCODER, kind="joint")}])
@pytest.mark.parametrize("frame", range(FRAMES))
def test_rays_see_the_same_in_the_part_and_in_the_whole(image_features, changes, frame):
    model = tiny_model((FRAMES,), **changes)
    for parameter in model.parameters():  # no layer that starts at zero hides what is read
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    scene = tiny_context(model, frames=FRAMES, cues=model.aggregator.from_cues is not None)
    renderer = Renderer(model, EVERYTHING, TINY_SAMPLING, static_frozen=False)
    for source in {0, FRAMES - 1, (frame + 2) % FRAMES} - {frame}:
        batch = replace(tiny_batch(scene, frame), source=source)
        whole = rendered(renderer, scene, batch, torch.Generator().manual_seed(0))
        part, place = scene.around(frame, source, renderer.reach)
        assert part.frames <= 2 * renderer.reach + 1
        inside = replace(batch, frame=place, source=part.frames)
        assert_same(whole, rendered(renderer, part, inside, torch.Generator().manual_seed(0)))


def kind(scene: SceneContext, frame: int, reach: int):
    """All of a part that is no tensor's value."""
    return taken_apart(scene.around(frame, 0, reach), [])


@pytest.mark.parametrize("reach", [0, 1, 2])
def test_frames_in_the_middle_are_of_one_kind_and_those_at_the_ends_of_their_own(reach):
    scene = tiny_context(tiny_model((FRAMES,)), frames=FRAMES)
    kinds = [kind(scene, frame, reach) for frame in range(FRAMES)]
    assert len(set(kinds[reach : FRAMES - reach])) == 1
    assert len(set(kinds)) == 1 + 2 * reach


def test_a_part_knows_the_time_of_its_frames():
    whole, part = Timeline(FRAMES), Timeline(3, FRAMES, torch.tensor(2.0, dtype=torch.float64))
    for time in (0, 0.5, 2):
        assert float(part.normalised(time)) == whole.normalised(time + 2)
