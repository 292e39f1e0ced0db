"""What all loss terms share: registration, weights, declared needs, masks, untouched inputs."""

from dataclasses import fields, replace

import pytest
import torch
from toys import as_leaves, boolean, make_scene, map_tensors, rendered, simple_case, tensors_of, tiny_model, turning_cameras

from semflow.config.schema import PAPER_DYNAMIC_LOSSES, PAPER_STATIC_LOSSES, LossConfig
from semflow.data.sampler import RaySampler
from semflow.data.supervision import supervise
from semflow.losses import LossSet, base
from semflow.losses.base import REGISTRY, masked_mean
from semflow.rendering.renderer import Branches, Renderer, Sampling

TERMS = [item.name for item in fields(LossConfig)]
PLANES = ("plane_variation", "plane_time")
NO_RAYS, ALL_RAYS = {"moving": boolean(0, 0)}, {"moving": boolean(1, 1)}
EMPTY_MASK = {  # what leaves a term without a single ray
    "rgb_full": {"color_valid": boolean(0, 0)}, "rgb_dynamic": {"color_valid": boolean(0, 0)},
    "rgb_warped": {"color_valid": boolean(0, 0)}, "rgb_static": ALL_RAYS,
    **{f"semantic_{part}": {"labels": torch.tensor([-1, -1])} for part in ("full", "static", "dynamic", "warped")},
    **{f"flow_{way}": {"flow_valid": {1: boolean(0, 0), -1: boolean(0, 0)}} for way in ("forward", "backward")},
    "flow_zero_static": ALL_RAYS, "blend_static": ALL_RAYS, "blend_warped_static": ALL_RAYS, "depth_agree": ALL_RAYS,
    "blend_surface": NO_RAYS, "depth_static": {"triangulated_valid": boolean(0, 0)},
    "surface_density": {"triangulated_valid": boolean(0, 0)},
}
BUSY = {"moving": boolean(0, 1), "labels": torch.tensor([1, 2]), "disparity": torch.tensor([2.0, 1.0]),
        "surface_u": torch.tensor([0.3, 0.7]), "triangulated_valid": boolean(1, 0)}


@pytest.fixture(scope="module")
def scene():
    cameras = turning_cameras(frames=4, height=6, width=8)
    generator = torch.Generator().manual_seed(1)
    shape = (4, 6, 8)
    motion = torch.zeros(shape, dtype=torch.bool)
    motion[:3, 2:4, 3:6] = True  # the last frame shows nothing that moves
    return make_scene(
        cameras, rgb=torch.rand(*shape, 3, generator=generator), motion=motion, labels=motion.long(),
        disparity=torch.rand(shape, generator=generator), flow_forward_valid=torch.ones(shape, dtype=torch.bool),
        flow_backward_valid=torch.ones(shape, dtype=torch.bool))


@pytest.fixture(scope="module")
def to_render(scene):
    """(model, context, sampler) of a tiny model with planes, so that every term has something to do."""
    model, (context,) = tiny_model([scene], encoding="planes", flow_encoding="planes")
    supervision = supervise(scene, False, (0, 1, 2, 3))
    supervision = replace(supervision, triangulated_valid=~scene.motion)
    return model, context, RaySampler(scene, supervision, rays=6, static_only=False)


def test_every_weight_has_a_term_and_every_term_a_weight():
    assert set(REGISTRY) == set(TERMS)
    assert len(set(map(id, (function for function, _ in REGISTRY.values())))) == len(TERMS)


def test_names_that_do_not_exist_are_refused(monkeypatch):
    with pytest.raises(TypeError, match="rgb_ful"):
        LossConfig(rgb_ful=1.0)
    monkeypatch.setattr(base, "REGISTRY", {})
    with pytest.raises(KeyError, match="rgb_full"):
        LossSet(LossConfig(rgb_full=1.0), moving_only=False)


def test_weights_are_applied_once_and_the_terms_are_reported_without_them():
    inputs = simple_case(batch={"rgb": torch.full((2, 3), 0.5)} | BUSY)
    arguments = (inputs.outputs, inputs.batch, inputs.scene, inputs.model)
    config = LossConfig(rgb_full=3.0, semantic_full=0.16, blend_static=0.5)
    total, values = LossSet(config, False)(*arguments)
    expected = 3.0 * values["rgb_full"] + 0.16 * values["semantic_full"] + 0.5 * values["blend_static"]
    torch.testing.assert_close(total, expected)
    assert float(values["rgb_full"]) == pytest.approx(0.25)
    assert float(values["blend_static"]) == pytest.approx(0.5)
    doubled, same = LossSet(replace(config, rgb_full=6.0), False)(*arguments)
    torch.testing.assert_close(doubled - total, 3.0 * values["rgb_full"])
    assert float(same["rgb_full"]) == float(values["rgb_full"])


def test_terms_of_weight_zero_are_never_called_and_ask_for_nothing(monkeypatch):
    def forbidden(inputs):
        raise AssertionError("a term of weight 0 was computed")

    others = {name: (forbidden, Branches(True, True, True, True, True, True)) for name in TERMS if name != "rgb_static"}
    monkeypatch.setattr(base, "REGISTRY", {**others, "rgb_static": REGISTRY["rgb_static"]})
    losses = LossSet(LossConfig(rgb_static=1.0), moving_only=False)
    assert losses.branches == Branches(static=True)
    inputs = simple_case()
    _, values = losses(inputs.outputs, inputs.batch, inputs.scene, inputs.model)
    assert set(values) == {"rgb_static"}


def test_the_published_stages_ask_for_what_they_need():
    assert LossSet(PAPER_STATIC_LOSSES, False).branches == Branches(static=True)
    assert LossSet(PAPER_DYNAMIC_LOSSES, False).branches == Branches(True, True, True, True, True, True)
    assert LossSet(LossConfig(rgb_dynamic=1.0), False).branches == Branches(dynamic=True)


@pytest.mark.parametrize("name", TERMS)
def test_a_term_alone_gets_all_it_reads_and_has_finite_gradients(to_render, name):
    """With nothing but its own declared branches rendered, at both ends of the scene and without a moving pixel."""
    model, context, sampler = to_render
    losses = LossSet(LossConfig(**{name: 1.0}), moving_only=True)
    sampling = Sampling(5, 0, 0.03, density_noise=1.0, moving_only=True, density_prior=True)
    for frame in (0, 1, 3):
        generator = torch.Generator().manual_seed(frame)
        batch = sampler.of_frame(frame, 2, generator)
        outputs = rendered(Renderer(model, losses.branches, sampling, static_frozen=False), context, batch, generator)
        total, _ = losses(outputs, batch, context, model)
        assert torch.is_tensor(total) and total.dim() == 0 and total.isfinite()
        if not total.requires_grad:  # nothing to learn from here, e.g. no neighbour where nothing moves
            assert total.item() == 0.0
            continue
        model.zero_grad(set_to_none=True)
        total.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", [name for name in TERMS if name not in PLANES])
def test_no_term_edits_its_inputs(name):
    for moving_only in (False, True):
        inputs = simple_case(batch=BUSY, moving_only=moving_only)
        before = map_tensors(inputs.outputs, torch.clone), map_tensors(inputs.batch, torch.clone)
        REGISTRY[name][0](inputs)
        after = tensors_of(inputs.outputs) + tensors_of(inputs.batch)
        assert len(after) > 40
        for old, new in zip(tensors_of(before[0]) + tensors_of(before[1]), after, strict=True):
            assert torch.equal(old, new)


@pytest.mark.parametrize(("name", "change"), EMPTY_MASK.items())
def test_an_empty_mask_gives_zero_and_zero_gradients(name, change):
    inputs = simple_case(batch=BUSY | change)
    inputs = replace(inputs, outputs=as_leaves(inputs.outputs))
    value = REGISTRY[name][0](inputs)
    assert value.item() == 0.0
    value.backward()
    for leaf in tensors_of(inputs.outputs):
        assert leaf.grad is None or not leaf.grad.any()


@pytest.mark.parametrize("name", ["rgb_dynamic", "semantic_dynamic", "flow_forward", "flow_backward", "depth_dynamic"])
def test_moving_only_keeps_static_rays_out(name):
    """The static ray's outputs get a gradient only where terms count on all rays."""
    flow = {1: torch.ones(2, 2), -1: torch.ones(2, 2)}
    change = BUSY | {"flow": flow, "surface_metric": True, "rgb": torch.ones(2, 3)}
    for moving_only in (False, True):
        inputs = simple_case(batch=change, moving_only=moving_only)
        outputs = as_leaves(inputs.outputs)
        REGISTRY[name][0](replace(inputs, outputs=outputs)).backward()
        view = outputs.dynamic_view
        grads = [leaf.grad.flatten(1) if leaf.dim() > 1 else leaf.grad[:, None]
                 for leaf in (view.rgb, view.logits, view.depth, view.weights) if leaf.grad is not None]
        moved = [leaf.grad.view(2, -1) for leaf in outputs.track.positions.values() if leaf.grad is not None]
        touched = torch.cat(grads + moved, dim=1).any(1)
        assert touched.tolist() == [not moving_only, True]


@pytest.mark.parametrize("name", [name for name in TERMS if name not in PLANES])
@pytest.mark.parametrize("frame", [0, 2])
def test_boundary_frames_are_finite_and_the_missing_neighbour_counts_nothing(name, frame):
    inputs = simple_case(frame=frame, batch=BUSY)
    assert len(inputs.outputs.neighbours) == 1
    inputs = replace(inputs, outputs=as_leaves(inputs.outputs))
    value = REGISTRY[name][0](inputs)
    assert value.isfinite()
    if value.requires_grad:
        value.backward()
    assert all(t.grad is None or t.grad.isfinite().all() for t in tensors_of(inputs.outputs))
    missing = {("flow_forward", 2), ("flow_backward", 0), ("flow_smooth_time", 0), ("flow_smooth_time", 2)}
    if (name, frame) in missing:
        assert value.item() == 0.0


def test_masked_mean_by_hand():
    values = torch.tensor([1.0, 2.0, 6.0])
    assert float(masked_mean(values, boolean(1, 0, 1))) == 3.5
    assert float(masked_mean(torch.stack([values, values + 2], dim=1), boolean(0, 1, 0))) == 3.0
    assert float(masked_mean(values, boolean(0, 0, 0))) == 0.0
