"""The model as a whole: what is trained, what leaks, several scenes, encoders that stay frozen."""

import math
from dataclasses import replace

import pytest
import torch

from semflow.config.schema import PAPER_DYNAMIC_LOSSES, EncoderConfig
from semflow.fields.flow import Timeline
from semflow.losses import LossSet
from semflow.models import semantic_flow
from semflow.models.scene_context import scene_box
from semflow.models.semantic_flow import SemanticFlow, plane_boxes
from semflow.rendering.renderer import Renderer
from tiny_scene import (
    TINY_ENCODER,
    TINY_MODEL,
    TINY_SAMPLING,
    TinyImageEncoder,
    tiny_batch,
    tiny_context,
    tiny_frames,
    tiny_model,
    tiny_shape,
)
from toys import rendered

ALL_LOSSES = replace(PAPER_DYNAMIC_LOSSES, rgb_static=1.0, semantic_static=0.08)


@pytest.fixture
def image_features(monkeypatch):
    """Models get the tiny image encoder in the static branch."""
    monkeypatch.setattr(semantic_flow, "build_image_encoder", lambda config, seed: TinyImageEncoder())


def backward(model: SemanticFlow, scene, frame: int, sampling=TINY_SAMPLING, seed: int = 0) -> torch.Tensor:
    """Accumulate the gradients of all losses on one batch."""
    losses = LossSet(ALL_LOSSES, moving_only=False)
    batch = tiny_batch(scene, frame)
    outputs = rendered(
        Renderer(model, losses.branches, sampling, False), scene, batch, torch.Generator().manual_seed(seed)
    )
    total, _ = losses(outputs, batch, scene, model)
    total.backward()
    return total.detach()


@pytest.mark.parametrize(
    "kind, changes",
    [
        ("pixels", {}),
        ("joint", {}),
        ("none", {}),
        ("none", {"scene_code": 3}),
        ("pixels", {"encoding": "planes", "flow_encoding": "planes", "ray_attention": True, "flow_length": 5}),
        ("joint", {"feature_gradient": False, "aggregator": "mean", "code_width": 0}),
        ("joint", {"aggregator": "point", "encoding": "planes", "static_view_dependent": False}),
    ],
)
def test_every_trainable_parameter_is_in_one_group_and_gets_gradients(image_features, kind, changes):
    """Mistake 1 of the published code. The second layers of residual blocks start at zero: two steps wake the first ones up.

    Noise on the densities keeps the fields from being empty, as it does in training.
    """
    model = tiny_model(encoder=replace(TINY_ENCODER, kind=kind, surface_cues=True), seed=2, **changes)
    groups = model.parameter_groups()
    grouped = [id(parameter) for group in groups.values() for parameter in group]
    trainable = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(grouped) == len(set(grouped)) and set(grouped) == set(trainable)
    assert {id(p) for p in groups["static"]} == {id(p) for p in model.static.parameters()}
    optimizer = torch.optim.Adam([{"params": group} for group in groups.values()], lr=1e-2)
    scene = tiny_context(model, cues=True)
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for frame in (1, 2, 1):
        optimizer.zero_grad()
        backward(model, scene, frame, replace(TINY_SAMPLING, samples=8, surface_samples=2, density_noise=3.0))
        optimizer.step()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0 and not torch.equal(parameter, start[name]), name
        else:
            assert torch.equal(parameter, start[name]), name


def test_attention_and_joint_encoder_are_among_the_trained(image_features):
    model = tiny_model(encoder=replace(TINY_ENCODER, kind="joint"))
    groups = {name: {id(parameter) for parameter in group} for name, group in model.parameter_groups().items()}
    for part, name in ((model.aggregator.attention, "dynamic"), (model.video_encoder, "dynamic"), (model.dynamic, "dynamic"),
                       (model.flow, "flow"), (model.code_mlp, "flow")):
        assert list(part.parameters()) and all(id(parameter) in groups[name] for parameter in part.parameters())


@pytest.mark.parametrize("frame", [0, 2, 3])
def test_static_samples_do_not_see_the_current_frame(image_features, frame):
    model = tiny_model()
    frames, spoilt = tiny_frames(4), tiny_frames(4)
    spoilt[frame] = 1.0 - spoilt[frame]
    found = []
    for rgb in (frames, spoilt):
        scene = tiny_context(model, rgb=rgb)
        assert scene.image is not None
        renderer = Renderer(model, semantic_flow_branches(), TINY_SAMPLING, False)
        found.append(
            [
                rendered(renderer, scene, replace(tiny_batch(scene, frame), source=source), torch.Generator().manual_seed(0)).static
                for source in range(scene.frames) if source != frame
            ]
        )
    for clean, other in zip(*found):
        for name in ("density", "rgb", "logits"):
            torch.testing.assert_close(getattr(clean, name), getattr(other, name), atol=0, rtol=0)
    assert not torch.allclose(found[0][0].logits, found[0][1].logits)  # the features do matter


def semantic_flow_branches():
    """Static field and what the published losses need."""
    return LossSet(ALL_LOSSES, moving_only=False).branches


def test_image_features_are_read_at_the_source_and_masked_outside_and_behind_it(image_features):
    model = tiny_model()
    scene = tiny_context(model)
    maps = model.ready_maps(scene, [], [2])
    inside, outside = torch.tensor([[0.0, 0.0, 0.2]]), torch.tensor([[40.0, 0.0, 0.2]])
    dirs = torch.tensor([[0.0, 0.0, -1.0]])
    unread = model.static(outside, dirs, torch.zeros(1, TINY_MODEL.static_width), 0)
    torch.testing.assert_close(model.static_samples(scene, maps, outside, dirs, 2).logits, unread.logits)
    unread = model.static(inside, dirs, torch.zeros(1, TINY_MODEL.static_width), 0)
    assert not torch.allclose(model.static_samples(scene, maps, inside, dirs, 2).logits, unread.logits)
    ahead = scene.cameras.c2w.clone()
    ahead[2, :, 3] += torch.tensor([0.0, 0.0, -3.0])  # the first point is behind the camera now, the second is not
    scene = replace(scene, cameras=replace(scene.cameras, c2w=ahead))
    behind, before = model.static_feature(scene, maps, torch.tensor([[0.0, 0.0, -0.5], [0.0, 0.0, 0.8]]), 2)
    assert not behind.any() and before.any()


@pytest.mark.parametrize("encoding", ["frequency", "planes"])
def test_a_batch_of_scenes_is_the_scenes_one_by_one(encoding):
    """Frame 2 is the last of the first scene and lies within the second: mistake 7 of the published code."""
    model = tiny_model(frames=(3, 5), encoding=encoding, flow_encoding=encoding)
    scenes = [tiny_context(model, 0, 3), tiny_context(model, 1, 5)]
    alone = []
    for scene in scenes:
        model.zero_grad(set_to_none=False)
        value = backward(model, scene, 2)
        alone.append(
            (
                value,
                [parameter.grad.clone() if parameter.grad is not None else None for parameter in model.parameters()],
            )
        )
    model.zero_grad(set_to_none=False)
    together = [backward(model, scene, 2) for scene in scenes[::-1]][::-1]
    for (value, _), again in zip(alone, together):
        torch.testing.assert_close(value, again, atol=0, rtol=0)
    for parameter, *parts in zip(model.parameters(), *(grads for _, grads in alone)):
        if parameter.grad is not None:
            torch.testing.assert_close(
                parameter.grad, sum(part for part in parts if part is not None), atol=1e-6, rtol=1e-4
            )


def test_boundary_frames_are_those_of_each_scene():
    """Mistake 7 of the published code."""
    model = tiny_model(frames=(3, 5))
    points = torch.rand(4, 3) - 0.5
    offsets = []
    for index, frames in enumerate((3, 5)):
        scene = tiny_context(model, index, frames)
        offsets.append(list(model.track(scene, model.ready_maps(scene, [], []), points, 2).positions))
    assert offsets == [[-1, 0], [-1, 0, 1]]


def test_scenes_have_their_own_code_planes_and_time():
    model = tiny_model(frames=(4, 4), encoding="planes")
    first, second = (tiny_context(model, index) for index in (0, 1))
    maps = [model.ready_maps(scene, [], []) for scene in (first, second)]
    assert not torch.allclose(maps[0].code, maps[1].code)
    points = torch.rand(5, 3) - 0.5
    dirs = torch.nn.functional.normalize(points, dim=1)
    found = [model.static_samples(scene, ready, points, dirs, 0).density for scene, ready in zip((first, second), maps)]
    assert not torch.allclose(*found)


def seen_by_the_fields(model: SemanticFlow, index: int) -> list[torch.Tensor]:
    """What both fields and the flow network say about the same points of scene `index`."""
    scene = tiny_context(model, index, rgb=tiny_frames(4))
    maps = model.ready_maps(scene, [1], [0])
    points = torch.rand(5, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    dirs = torch.nn.functional.normalize(points, dim=1)
    static = model.static_samples(scene, maps, points, dirs, 0)
    dynamic = model.dynamic_samples(scene, maps, [model.track(scene, maps, points, 1, length=1)], rays=[5])[0]
    return [static.density, static.logits, dynamic.density, dynamic.logits, model.flow.velocity(points, 1, Timeline(4), maps.code, index)]


def test_without_features_only_a_scene_code_tells_scenes_apart():
    """Frequencies say where a point is, not in which scene."""
    blind = {"aggregator": "none", "code_width": 0, "encoder": replace(TINY_ENCODER, kind="none")}
    for coded in (0, 3):
        model = tiny_model(frames=(4, 4), scene_code=coded, **blind)
        first, second = (seen_by_the_fields(model, index) for index in (0, 1))
        assert [torch.equal(*pair) for pair in zip(first, second)] == [not coded] * 5


def test_the_code_of_a_scene_is_trained_by_that_scene_alone():
    model = tiny_model(frames=(4, 4), scene_code=3, encoder=replace(TINY_ENCODER, kind="none"))
    backward(model, tiny_context(model, 1), 1)
    codes = {name: parameter for name, parameter in model.named_parameters() if name.endswith("encoding.codes")}
    assert set(codes) == {f"{part}.encoding.codes" for part in ("static", "dynamic", "flow")}
    for code in codes.values():
        assert not code.grad[0].any() and code.grad[1].any()


def test_planes_need_no_scene_code():
    names = [name for name, _ in tiny_model(frames=(4, 4), encoding="planes", scene_code=3).named_parameters()]
    assert [name for name in names if name.endswith("codes")] == ["flow.encoding.codes"]


def test_frozen_encoders_stay_in_eval_mode(image_features):
    """Mistake 8 of the published code."""
    model = tiny_model(encoder=replace(TINY_ENCODER, kind="pixels"))
    model.train()
    assert model.training and not any(module.training for module in model.image_encoder.modules())
    assert not any(module.training for module in model.video_encoder.modules())
    model.image_encoder.norm.running_mean.fill_(0.2)
    first, second = tiny_context(model), tiny_context(model)
    torch.testing.assert_close(first.image.maps, second.image.maps, atol=0, rtol=0)
    assert torch.equal(model.image_encoder.norm.running_mean, torch.full((4,), 0.2))
    alone = model.image_encoder(tiny_frames(4)[1:2].permute(0, 3, 1, 2)).maps
    torch.testing.assert_close(alone[0], first.image.maps[1])


def test_scenes_share_the_basis_of_reduced_maps():
    model = tiny_model((4, 4), encoder=replace(TINY_ENCODER, kind="pixels", pca=3))
    clips = [tiny_frames(4, seed=seed) for seed in (0, 1)]
    model.fit_encoders(clips)
    basis = model.video_encoder.basis.clone()
    assert model.aggregator.channels == 3 and tiny_context(model).video.maps.shape[-1] == 3
    assert torch.isfinite(backward(model, tiny_context(model, 1), 1))
    model.fit_encoders(clips[:1])
    assert torch.equal(model.video_encoder.basis, basis), "a basis that is there stays"
    alone = tiny_model(encoder=replace(TINY_ENCODER, kind="pixels", pca=3))
    alone.fit_encoders(clips[:1])
    assert not torch.allclose(alone.video_encoder.basis, basis)


def test_the_density_scale_multiplies_both_fields():
    plain, scaled = tiny_model(), tiny_model(density_scale=30.0)
    found = []
    for model in (plain, scaled):
        scene = tiny_context(model)
        renderer = Renderer(model, semantic_flow_branches(), TINY_SAMPLING, False)
        outputs = rendered(renderer, scene, tiny_batch(scene, 1), torch.Generator().manual_seed(0))
        found.append(outputs)
    for name in ("static", "dynamic"):
        torch.testing.assert_close(30 * getattr(found[0], name).density, getattr(found[1], name).density)


def test_softplus_keeps_densities_positive_and_close_to_relu():
    found = []
    for activation in ("relu", "softplus"):
        model = tiny_model(density_activation=activation, density_scale=2.0)
        points = 2 * torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) - 1
        scene = tiny_context(model)
        found.append(model.static_samples(scene, model.ready_maps(scene, [], []), points, points, 0).density)
    raw, soft = found
    assert (raw < 0).any() and (raw > 0).any() and (soft > 0).all()
    assert (soft - raw.relu()).max() <= 2.0 * math.log(
        2
    ) / 10 + 1e-6  # softplus exceeds relu most at 0: ln 2 / sharpness


@pytest.mark.parametrize("classes", [2, 7, 150])
def test_class_counts(classes):
    model = SemanticFlow(TINY_MODEL, TINY_ENCODER, classes, [tiny_shape(4)], 0)
    scene = tiny_context(model)
    points = torch.rand(4, 3) - 0.5
    maps = model.ready_maps(scene, [0, 1, 2], [])
    assert model.dynamic_samples(scene, maps, [model.track(scene, maps, points, 1)], [2])[0].logits.shape == (4, classes)
    assert model.static_samples(scene, maps, points, points, 0).logits.shape == (4, classes)


@pytest.mark.parametrize(
    "name, kind, tokens",
    [
        ("attention", "pixels", True),
        ("mean", "pixels", False),
        ("point", "pixels", False),
        ("none", "pixels", False),
        ("attention", "none", False),
    ],
)
def test_the_aggregator_is_the_configured_one(name, kind, tokens):
    model = tiny_model(encoder=EncoderConfig(kind=kind, static_kind="none"), aggregator=name)
    assert hasattr(model.aggregator, "attention") == tokens
    assert model.aggregator.use_neighbours == (name in ("attention", "mean") and kind != "none")
    assert (model.aggregator.channels > 0) == (name != "none" and kind != "none")


@pytest.mark.parametrize("frames", [1, 2, 12])
def test_plane_boxes_end_at_the_last_frame(frames):
    boxes, steps = plane_boxes([tiny_shape(frames)], with_time=True)
    assert steps == (frames,) and boxes.shape == (1, 2, 4)
    assert boxes[0, 0, 3] == -1.0 and boxes[0, 1, 3] > -1.0
    if frames > 1:
        assert boxes[0, 1, 3].item() == pytest.approx(2 * (frames - 1) / frames - 1)


def test_the_box_holds_every_sample_of_every_ray():
    scene = tiny_context(tiny_model())
    low, high = scene_box(scene.cameras, scene.space)
    for frame in range(4):
        points = tiny_batch(scene, frame, rays=200).rays.at(torch.linspace(0, 1, 9).expand(200, 9)).flatten(0, 1)
        assert (points >= low - 1e-5).all() and (points <= high + 1e-5).all()
    assert (high > low).all()


@pytest.mark.parametrize("changes, other", [
    ({"aggregator": "mean"}, ("aggregator", "dynamic")), ({"flow_width": 20}, ("flow",)), ({"static_width": 20}, ("static",))])
def test_models_that_differ_in_one_network_start_with_the_same_others(changes, other):
    first, second = tiny_model().state_dict(), tiny_model(**changes).state_dict()
    same = {name for name in first if name in second and first[name].shape == second[name].shape
            and torch.equal(first[name], second[name])}
    untouched = {name for name in first if not name.startswith(other) and ".density." not in name}  # these `tiny_model` draws
    assert untouched <= same and any(name.startswith(("static", "flow")) for name in untouched)


def test_another_seed_starts_every_network_anew():
    first, second = (tiny_model(seed=seed).state_dict() for seed in (0, 1))
    for part in ("code_mlp", "flow", "aggregator", "static", "dynamic"):
        assert any(not torch.equal(first[name], second[name]) for name in first if name.startswith(part)), part


def test_samples_of_tracks_with_other_numbers_of_rays_are_those_of_each_alone():
    """With an attention along the rays, which has to know them."""
    model = tiny_model(frames=(4,), ray_attention=True)
    scene = tiny_context(model)
    maps = model.ready_maps(scene, [0, 1, 2, 3], [])
    starts = [(torch.rand(rays * 3, 3) - 0.5, frame) for rays, frame in ((4, 1), (2, 0), (0, 2))]
    tracks = model.tracks(scene, maps, starts)
    together = model.dynamic_samples(scene, maps, tracks, [4, 2, 0])
    for track, rays, found in zip(tracks, (4, 2, 0), together, strict=True):
        if rays:
            (alone,) = model.dynamic_samples(scene, maps, [track], [rays])
            torch.testing.assert_close(found.logits, alone.logits)
            torch.testing.assert_close(found.density, alone.density)
        assert len(found.density) == 3 * rays
