"""Perturbations of a scene: how large, how distributed, repeatable, and of training alone."""

import math
from dataclasses import replace

import pytest
import torch
from toys import make_scene, sliding_cameras

from semflow.cli.evaluate import load_scenes
from semflow.config.schema import Config, DataConfig
from semflow.data import synthetic
from semflow.data.perturbations import perturbed
from semflow.engine.scenes import load_training_scenes
from semflow.geometry.cameras import Cameras
from semflow.geometry.spaces import make_space
from semflow.records import SceneData
from semflow.utils.errors import ConfigError

FRAMES, HEIGHT, WIDTH = 4, 60, 80
ALL = {"label_kind": "fraction", "label_fraction": 0.3, "label_noise": 0.1, "flow_noise": 0.1, "pose_noise": 0.01,
       "occlusion": 0.2}
TENSORS = ("rgb", "labels", "motion", "flow_forward", "flow_forward_valid", "flow_backward", "flow_backward_valid")


def scene(**changes) -> SceneData:
    """A moving, valid, fully labelled scene with a flow of 5 pixels; the last frame has no labels."""
    shape = (FRAMES, HEIGHT, WIDTH)
    small = sliding_cameras(FRAMES)
    cameras = Cameras(small.c2w, 40.0, HEIGHT, WIDTH, small.near, small.far)
    everywhere = torch.ones(shape, dtype=torch.bool)
    flow = torch.tensor([3.0, 4.0]).expand(*shape, 2).clone()
    flow[-1] = 0
    labels = torch.randint(3, shape, generator=torch.Generator().manual_seed(0))
    labels[-1] = -1
    values = {"motion": everywhere, "flow_forward": flow, "flow_backward": flow.flip(0), "labels": labels,
              "flow_forward_valid": everywhere, "flow_backward_valid": everywhere}
    return make_scene(cameras, **(values | changes))


def parts(data: SceneData) -> dict[str, torch.Tensor]:
    return {name: getattr(data, name) for name in TENSORS} | {"c2w": data.cameras.c2w}


def changed(first: SceneData, second: SceneData) -> set[str]:
    """Names of the tensors that differ."""
    one, two = parts(first), parts(second)
    return {name for name in one if not torch.equal(one[name], two[name])}


def test_nothing_asked_nothing_done():
    data = scene()
    assert perturbed(data, DataConfig(), 0) is data


@pytest.mark.parametrize("settings, touched", [
    ({"label_kind": "fraction", "label_fraction": 0.5}, {"labels"}),
    ({"label_kind": "scribbles"}, {"labels"}),
    ({"label_kind": "box_centre"}, {"labels"}),
    ({"label_noise": 0.1}, {"labels"}),
    ({"flow_noise": 0.1}, {"flow_forward", "flow_backward"}),
    ({"pose_noise": 0.1}, {"c2w"}),
    ({"occlusion": 0.1}, {"rgb", "labels", "motion", "flow_forward_valid", "flow_backward_valid"}),
])
def test_each_changes_its_own_maps_in_a_copy(settings, touched):
    data = scene()
    before = {name: value.clone() for name, value in parts(data).items()}
    assert changed(data, perturbed(data, DataConfig(**settings), 0)) == touched
    assert all(torch.equal(value, before[name]) for name, value in parts(data).items())


def test_repeatable_and_different_for_other_seeds_and_scenes():
    data, config = scene(), DataConfig(**ALL)
    first = perturbed(data, config, 3)
    assert not changed(first, perturbed(data, config, 3))
    assert changed(first, perturbed(data, config, 4)) == set(parts(data))
    assert changed(first, perturbed(replace(data, name="other"), config, 3)) == set(parts(data))
    assert not changed(perturbed(data, config, -1), perturbed(data, config, -1))  # a seed may be negative


def test_no_kind_disturbs_another():
    data, all_kinds = scene(), perturbed(scene(), DataConfig(**ALL), 0)
    for name, touched in (("flow_noise", "flow_forward"), ("pose_noise", "c2w"), ("occlusion", "rgb")):
        alone = perturbed(data, DataConfig(**{name: ALL[name]}), 0)
        assert touched not in changed(alone, all_kinds)


@pytest.mark.parametrize("amount", [0.01, 0.1])
def test_flow_noise_is_relative_to_the_rms_length_of_each_flow(amount):
    data = scene()
    noise = perturbed(data, DataConfig(flow_noise=amount), 0).flow_forward - data.flow_forward
    assert not noise[-1].any()  # no flow, no noise
    assert noise[:-1].mean().abs() < 0.05 * amount * 5
    for frame in range(FRAMES - 1):
        assert noise[frame].std() == pytest.approx(5 * amount, rel=0.05)
    assert not torch.equal(noise[0], noise[1])


@pytest.mark.parametrize("amount", [0.05, 0.2, 1.0])
def test_label_noise_makes_a_share_of_the_labelled_pixels_wrong(amount):
    data = scene()
    labels = perturbed(data, DataConfig(label_noise=amount), 0).labels
    assert (labels[-1] == -1).all()
    wrong = labels[:-1] != data.labels[:-1]
    assert float(wrong.float().mean()) == pytest.approx(amount, abs=0.01)
    shift = (labels[:-1] - data.labels[:-1])[wrong] % 3
    assert float((shift == 1).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_wrong_labels_are_a_share_of_those_that_are_kept():
    data = scene()
    labels = perturbed(data, DataConfig(label_kind="fraction", label_fraction=0.5, label_noise=0.2), 0).labels
    kept = labels >= 0
    assert kept.sum(dim=(1, 2)).tolist() == [HEIGHT * WIDTH // 2] * 3 + [0]
    assert float((labels != data.labels)[kept].float().mean()) == pytest.approx(0.2, abs=0.02)


def test_label_noise_needs_another_class():
    data = scene(labels=torch.zeros(FRAMES, HEIGHT, WIDTH, dtype=torch.int64))
    lonely = replace(data.label_map, names=("wall",), colors=data.label_map.colors[:1], foreground=())
    with pytest.raises(ConfigError, match="data.label_noise = 0.1: scene .* single class"):
        perturbed(replace(data, label_map=lonely), DataConfig(label_noise=0.1), 0)


def test_a_fraction_needs_its_kind():
    with pytest.raises(ConfigError, match="label_fraction = 0.5: is only used with label_kind = fraction"):
        DataConfig(label_kind="scribbles", label_fraction=0.5)


@pytest.mark.parametrize("kind", ["ndc", "metric"])
def test_pose_noise_turns_in_radians_and_shifts_by_the_nearest_depth(kind):
    data, amount = scene(), 0.01
    config = DataConfig(pose_noise=amount, space=kind)
    turns, shifts = [], []
    for seed in range(100):
        found = perturbed(data, config, seed)
        relative = data.cameras.c2w[:, :, :3].mT @ found.cameras.c2w[:, :, :3]
        torch.testing.assert_close(relative @ relative.mT, torch.eye(3).expand(FRAMES, 3, 3), atol=1e-5, rtol=0)
        cosine = (relative.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
        turns.append(torch.acos(cosine.double().clamp(max=1)).square())
        shifts.append(found.cameras.c2w[:, :, 3] - data.cameras.c2w[:, :, 3])
    assert float(torch.stack(turns).mean().sqrt()) == pytest.approx(amount * math.sqrt(3), rel=0.1)
    nearest = float(data.cameras.near.min())
    assert float(torch.stack(shifts).std()) == pytest.approx(amount * nearest, rel=0.1)
    expected = make_space(kind, found.cameras, clip_to_bounds=False)
    assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(vars(found.space).values(), vars(expected).values()))


def test_the_patch_is_a_wandering_square_without_labels_and_flow():
    data = scene(rgb=torch.full((FRAMES, HEIGHT, WIDTH, 3), 0.123))
    found = perturbed(data, DataConfig(occlusion=0.25), 0)
    hidden = (found.rgb != 0.123).any(-1)
    corners = []
    for mask in hidden:
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        assert len(rows) == len(columns) == 20 and mask.sum() == 400
        corners.append([int(rows[0]), int(columns[0])])
    steps = torch.tensor(corners).diff(dim=0)
    assert (steps != 0).any() and ((steps - steps.float().mean(0)).abs() <= 1).all()  # straight and even
    assert len(found.rgb[hidden].unique(dim=0)) == 1
    assert torch.equal(found.labels, data.labels.masked_fill(hidden, -1))
    for name in ("motion", "flow_forward_valid", "flow_backward_valid"):
        assert torch.equal(getattr(found, name), ~hidden)


@pytest.mark.parametrize("size, side", [(1.0, HEIGHT), (0.001, 1)])
def test_the_patch_is_never_larger_than_the_image_nor_nothing(size, side):
    data = scene(rgb=torch.full((FRAMES, HEIGHT, WIDTH, 3), 0.123))
    hidden = (perturbed(data, DataConfig(occlusion=size), 0).rgb != 0.123).any(-1)
    assert hidden.sum(dim=(1, 2)).tolist() == [side * side] * FRAMES


def test_training_is_perturbed_and_evaluation_reads_what_lies_on_disk(tmp_path):
    synthetic.make_scene(tmp_path, "one", frames=3, height=24, width=32)
    clean = DataConfig(dir=str(tmp_path), scenes=("one",), labelled_frames="0,2")
    spoilt = replace(clean, **ALL)
    (training,) = load_training_scenes(Config(data=spoilt), torch.device("cpu"))
    (exact,) = load_training_scenes(Config(data=clean), torch.device("cpu"))
    assert changed(training.data, exact.data) == set(parts(exact.data))
    ((judged,), truth), ((expected,), expected_truth) = (load_scenes(config, "cpu") for config in (spoilt, clean))
    assert not changed(judged, expected) and not changed(judged, exact.data)
    assert torch.equal(truth["one"], expected_truth["one"]) and (truth["one"] >= 0).all()
