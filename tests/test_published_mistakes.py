"""The eleven mistakes of the published code: an index, and for each a test that fails where it comes back.

They are numbered in the order of docs/method.md, "Mistakes of the published code that are not repeated".
The tests of the single parts go further; these only have to see the mistake.
"""

from dataclasses import fields, replace

import pytest
import torch
from toys import (
    BALL,
    CLASSES,
    as_leaves,
    boolean,
    context_of,
    make_scene,
    map_tensors,
    ndc_of,
    rendered,
    sampled,
    simple_case,
    tensors_of,
    tiny_model,
    turning_cameras,
)

from semflow.config.schema import PAPER_DYNAMIC_LOSSES, LossConfig, StageConfig
from semflow.data.frame_lists import parse_frames
from semflow.data.sampler import RaySampler
from semflow.data.supervision import supervise
from semflow.encoders.image import ResNet18Encoder
from semflow.engine.protocols import HELD_OUT, TRAINING, SeenInTraining
from semflow.engine.stages import Stage, build_losses, build_optimizer, build_renderer
from semflow.fields.aggregation import TrackRead
from semflow.fields.flow import Timeline
from semflow.fields.track_scene import TrackScene, locate
from semflow.losses.base import REGISTRY
from semflow.losses.depth import depth_dynamic
from semflow.losses.flow import flow_backward, flow_forward, flow_smooth_time
from semflow.records import FieldSamples, FlowTrack
from semflow.rendering.compositing import composite, composite_blended

SIZE = (8, 12)


def scene_with(frames: int = 4, moving: bool = True, **changes):
    """A scene with a moving patch, labels and random colours."""
    generator = torch.Generator().manual_seed(frames)
    motion = torch.zeros(frames, *SIZE, dtype=torch.bool)
    motion[:, 2:5, 4:8] = moving
    values = {"rgb": torch.rand(frames, *SIZE, 3, generator=generator), "motion": motion, "labels": motion.long(),
              "disparity": torch.rand(frames, *SIZE, generator=generator),
              "flow_forward_valid": torch.ones_like(motion), "flow_backward_valid": torch.ones_like(motion)}
    return make_scene(turning_cameras(frames, *SIZE), **(values | changes))


def dynamic_stage(moving_only: bool = False) -> Stage:
    config = StageConfig(steps=1, rays=8, samples=6, lr=1e-2, losses=PAPER_DYNAMIC_LOSSES, moving_only=moving_only)
    return Stage("dynamic", config, ("flow", "dynamic"), static_rays=False, first_step=0)


def step_losses(scene, model, context, frame: int, moving_only: bool = False):
    """(total, terms) of one training batch of a frame with the published losses."""
    stage, generator = dynamic_stage(moving_only), torch.Generator().manual_seed(0)
    losses = build_losses(stage)
    sampler = RaySampler(scene, supervise(scene, False, tuple(range(scene.frames))), 8, static_only=False)
    batch = sampler.of_frame(frame, 0, generator)
    outputs = rendered(build_renderer(stage, losses, model, density_prior=True), context, batch, generator)
    return losses(outputs, batch, context, model)


def test_1_every_trainable_module_is_in_the_optimiser():
    """There, the flow attention never trains. See also the trainer's and the model's own tests."""
    scene = scene_with()
    model, (context,) = tiny_model([scene], encoding="planes")
    groups = model.parameter_groups()
    listed = [id(p) for group in groups.values() for p in group]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(p) for p in model.parameters() if p.requires_grad}
    optimizer = build_optimizer(dynamic_stage(), model)
    optimised = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert optimised == {id(p) for name in ("flow", "dynamic") for p in groups[name]}
    attention = list(model.aggregator.attention.parameters()) + list(model.aggregator.from_displacement.parameters())
    before = [p.detach().clone() for p in attention]
    step_losses(scene, model, context, 1)[0].backward()
    optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, attention))


def test_2_neighbour_points_are_projected_as_world_points():
    """A still point, in NDC, lands in each neighbour's camera where the world point does."""
    cameras = turning_cameras(3, *SIZE)
    space = ndc_of(cameras)
    world = torch.tensor([BALL, [-0.3, 0.2, -2.5]])
    points = space.from_world(world)
    scene = TrackScene(cameras, space, None)
    uv = dict(zip((-1, 0, 1), locate(points.expand(3, -1, -1), scene)[0]))
    for offset in (-1, 0, 1):
        torch.testing.assert_close(uv[offset], cameras.project(world, 1 + offset)[0], atol=1e-3, rtol=0)
    assert (uv[1] - uv[-1]).norm(dim=-1).min() > 0.5


def test_3_both_directions_of_the_flow_have_their_own_state_and_see_the_clip_code():
    model, _ = tiny_model([scene_with()])
    torch.nn.init.normal_(model.flow.last.weight)
    generator = torch.Generator().manual_seed(0)
    points, code = torch.rand(20, 3, generator=generator) - 0.5, torch.randn(6, generator=generator)
    with torch.no_grad():
        both = model.flow.track(points, 1, 3, Timeline(4), code)
        for offset in (1, -1):  # alone and in the other order
            alone = model.flow.advect(points, 1, offset, Timeline(4), code)
            torch.testing.assert_close(alone, both.positions[offset], atol=1e-7, rtol=1e-5)
        other = model.flow.track(points, 1, 3, Timeline(4), code + 1.0)
    for offset in (-1, 1):
        assert (other.positions[offset] - both.positions[offset]).abs().max() > 1e-4
    assert not torch.allclose(both.displacement(1), both.displacement(-1))


def test_4_displacements_are_taken_in_field_space_before_projection():
    """A token depends on the displacement alone: not on the camera, the place or the pixel."""
    model, _ = tiny_model([scene_with()])
    points, shift = torch.rand(6, 3) - 0.5, torch.tensor([0.03, -0.01, 0.05])
    nothing = {1: TrackRead(torch.zeros(6, 0), torch.zeros(6, 8), torch.ones(6, dtype=torch.bool))}

    def token(start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        return model.aggregator.tokens([FlowTrack(1, {0: start, 1: end})], nothing)[1]

    tokens = [token(p, p + shift) for p in (points, points + 0.2)]
    torch.testing.assert_close(tokens[0], tokens[1], atol=1e-5, rtol=0)
    still = token(points, points)
    assert (tokens[0] - still).abs().max() > 1e-4
    torch.testing.assert_close(FlowTrack(1, {0: points, 1: points + shift}).displacement(1), shift.expand(6, 3))


def test_5_no_loss_edits_its_inputs_and_depth_has_one_sign():
    names = [item.name for item in fields(LossConfig) if not item.name.startswith("plane_")]
    busy = {"moving": boolean(0, 1), "disparity": torch.tensor([2.0, 1.0]), "labels": torch.tensor([0, 2])}
    inputs = simple_case(batch=busy)
    given = tensors_of(inputs.outputs) + tensors_of(inputs.batch)
    before = [tensor.clone() for tensor in given]
    for name in names:
        REGISTRY[name][0](inputs)
    assert all(torch.equal(old, new) for old, new in zip(before, given, strict=True))

    disparity = torch.tensor([5.0, 1.0])  # the first surface is nearer
    near_first, far_first = (
        float(depth_dynamic(with_depth(simple_case(batch={"disparity": disparity}), torch.tensor(depth))))
        for depth in ([0.2, 0.8], [0.8, 0.2]))
    assert near_first == pytest.approx(0.0, abs=1e-6) and far_first > 1.0
    surface = supervise(scene_with(disparity=disparity.repeat(4, *SIZE[:1], SIZE[1] // 2)), False, (0,)).surface_u
    assert surface[0, 0, 0] < surface[0, 0, 1]


def with_depth(inputs, depth):
    view = replace(inputs.outputs.dynamic_view, depth=depth)
    return replace(inputs, outputs=replace(inputs.outputs, dynamic_view=view))


def test_6_class_logits_travel_by_name_and_none_is_read_a_channel_off():
    logits = torch.tensor([3.0, -1.0, 0.5])
    other = torch.tensor([-2.0, 4.0, 1.0])
    u, ones = torch.tensor([[0.25, 0.75]]), torch.ones(1, 2)
    static = FieldSamples(200 * ones, torch.rand(1, 2, 3), logits.expand(1, 2, 3))
    dynamic = FieldSamples(200 * ones, torch.rand(1, 2, 3), other.expand(1, 2, 3), torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(composite(static, u, 0.5 * ones).logits[0], logits)
    torch.testing.assert_close(composite_blended(static, dynamic, u, 0.5 * ones)[0].logits[0], logits)  # it is in front
    swapped = replace(dynamic, blend=torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(composite_blended(static, swapped, u, 0.5 * ones)[0].logits[0], other)

    model, (context,) = tiny_model([scene_with()])
    maps = model.ready_maps(context, [1], [])
    for head, sample in (
        (model.static.semantic[-1], lambda p: model.static_samples(context, maps, p, torch.zeros_like(p), 0)),
        (model.dynamic.semantic[-1], lambda p: model.dynamic_samples(context, maps, [FlowTrack(1, {0: p})], [1])[0]),
    ):
        torch.nn.init.zeros_(head.weight)
        head.bias.data = torch.arange(float(CLASSES))
        with torch.no_grad():
            assert sample(torch.zeros(1, 3)).logits.tolist() == [[0.0, 1.0, 2.0]]


def test_7_boundary_frames_belong_to_their_scene():
    """Frame 2 ends the short scene of a model and not the long one; with every loss, both ends are finite."""
    scenes = [scene_with(3), scene_with(5)]
    model, contexts = tiny_model(scenes)
    points = torch.zeros(4, 3)
    offsets = []
    for context in contexts:
        maps = model.ready_maps(context, [1, 2], [])
        offsets.append(set(model.track(context, maps, points, 2, 3).positions))
    assert offsets == [{-1, 0}, {-1, 0, 1}]
    for scene, context, frames in zip(scenes, contexts, ((0, 2), (0, 2, 4))):
        for frame in frames:
            total, terms = step_losses(scene, model, context, frame)
            model.zero_grad(set_to_none=True)
            total.backward()
            assert total.isfinite()
            assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
            assert (terms["flow_backward"].item() == 0) == (frame == 0)
            assert (terms["flow_forward"].item() == 0) == (frame == scene.frames - 1)
    last = simple_case(frame=2, frames=3)
    assert float(flow_forward(last)) == 0.0 == float(flow_smooth_time(last))
    assert float(flow_backward(last)) > 0.0


def test_8_encoders_stay_in_eval_mode():
    encoder = ResNet18Encoder("", seed=0)
    holder = torch.nn.ModuleDict({"encoder": encoder}).train()
    assert not any(module.training for module in encoder.modules())
    frames = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    both, alone = holder["encoder"](frames).maps, holder["encoder"](frames[:1]).maps
    torch.testing.assert_close(both[:1], alone, atol=1e-4, rtol=1e-4)  # no statistics over the batch
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())
    assert not any(p.requires_grad for p in encoder.parameters())


def test_9_frames_are_numbered_from_zero_in_training_and_evaluation():
    labelled = parse_frames("0-2", 12)
    assert labelled == (0, 1, 2)
    seen = SeenInTraining(12, labelled, range(12), color_views=False, label_views=False)
    assert [seen.label_group(t, t) for t in range(12)] == [TRAINING] * 3 + [HELD_OUT] * 9
    views = SeenInTraining(12, labelled, range(12), color_views=True, label_views=True)
    assert [t for t in range(12) if views.label_group(t, 5) == HELD_OUT and t != 5] == [3, 4, 6, 7, 8, 9, 10, 11]
    cameras = turning_cameras(3, *SIZE)
    assert torch.equal(cameras.center(0), cameras.c2w[0, :, 3])


def test_10_motion_masks_and_targets_of_unlabelled_frames_never_come_from_labels():
    """On disk, with destroyed label files: tests/data/test_supervision.py."""
    scene = scene_with()
    unlabelled = replace(scene, labels=torch.full_like(scene.labels, -1))
    targets = [supervise(s, True, (0, 1)) for s in (scene, unlabelled)]
    for item in fields(targets[0]):
        one, two = (getattr(target, item.name) for target in targets)
        assert torch.equal(one, two) if torch.is_tensor(one) else one == two
    samplers = [RaySampler(data, targets[0], 12, static_only=False) for data in (scene, unlabelled)]
    batches = [sampled(sampler, *(torch.Generator().manual_seed(3) for _ in range(2))) for sampler in samplers]
    assert torch.equal(batches[0].moving, batches[1].moving) and torch.equal(batches[0].rays.uv, batches[1].rays.uv)
    assert batches[0].moving.any() and not torch.equal(batches[0].labels, batches[1].labels)


@pytest.mark.parametrize("moving_only", [False, True])
@pytest.mark.parametrize("moving_pixels", [0, 1])
def test_11_a_frame_without_foreground_or_with_few_moving_pixels_is_normal(moving_only, moving_pixels):
    motion = torch.zeros(4, *SIZE, dtype=torch.bool)
    motion.view(4, -1)[:, 30:30 + moving_pixels] = True
    scene = scene_with(motion=motion, labels=torch.full((4, *SIZE), 2))  # class 1, the foreground, is nowhere
    model, (context,) = tiny_model([scene])
    for frame in (0, 1):
        total, terms = step_losses(scene, model, context, frame, moving_only)
        assert total.isfinite() and all(value.isfinite() for value in terms.values())
        model.zero_grad(set_to_none=True)
        total.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
        if moving_only and not moving_pixels:
            assert terms["rgb_warped"].item() == 0.0 == terms["rgb_dynamic"].item()


def test_every_test_of_this_index_sees_real_tensors():
    """The helpers that compare before and after do reach the tensors of nested records."""
    inputs = simple_case()
    assert len(tensors_of(inputs.outputs)) > 30
    doubled = map_tensors(inputs.batch, lambda tensor: tensor + 1 if tensor.is_floating_point() else tensor)
    torch.testing.assert_close(doubled.flow[1], inputs.batch.flow[1] + 1)
    assert as_leaves(inputs.outputs).dynamic_view.weights.requires_grad
    assert context_of(turning_cameras()).frames == 3
