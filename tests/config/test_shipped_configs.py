"""The files in configs/: all parse, and configs/paper holds the published values, typed in here by hand."""

from functools import cache
from pathlib import Path

import pytest

from semflow.config.files import read_config_file
from semflow.config import parser
from semflow.config.parser import config_differences
from semflow.config.schema import Config, DataConfig
from semflow.data.frame_lists import parse_frames
from semflow.engine.checkpoint import checkpoint_path
from semflow.engine.stages import stage_fields, total_steps

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(CONFIGS.rglob("*.txt"))
PAPER = CONFIGS / "paper"
TASKS = CONFIGS / "tasks"
NERF_TIME = CONFIGS / "baselines" / "nerf_time.txt"
NVIDIA_SCENES = {"Balloon1", "Balloon2", "Jumping", "Playground", "Skating", "Truck", "Umbrella"}

STATIC_WEIGHTS = {"rgb_static": 1.0, "semantic_static": 0.08}
DYNAMIC_WEIGHTS = {
    "rgb_full": 3.0, "rgb_dynamic": 1.0, "rgb_warped": 1.0, "flow_forward": 0.02, "flow_backward": 0.02,
    "flow_small": 0.01, "flow_smooth_time": 0.1, "flow_smooth_ray": 0.1, "flow_smooth_second": 0.1,
    "semantic_full": 0.16, "semantic_dynamic": 0.08, "semantic_warped": 0.1, "flow_cycle": 1.0, "blend_static": 0.1,
    "blend_dynamicness": 0.1, "blend_entropy": 0.001, "blend_surface": 1.0, "flow_zero_static": 0.5,
    "blend_warped_static": 0.01, "depth_dynamic": 0.04, "depth_agree": 0.1,
}
LABELLED = {
    "tracking_25": [0, 1, 2], "tracking_50": [0, 1, 2, 3, 4, 5], "tracking_75": [0, 1, 2, 3, 4, 5, 6, 7, 8],
    "completion_25": [0, 1, 11], "completion_50": [0, 1, 2, 9, 10, 11],
    "completion_75": [0, 1, 2, 3, 4, 8, 9, 10, 11],
}


@cache
def config_from_file(path: Path) -> Config:
    return parser.config_from_file(path)


def name_of(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


def nonzero(losses) -> dict[str, float]:
    return {name: weight for name, weight in vars(losses).items() if weight}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_file_parses(path):
    config = config_from_file(path)
    assert config.static_stage.steps or path.stem == "nerf_time"  # the one model without a static field
    assert config.dynamic_stage.steps
    for frames in (config.data.labelled_frames, config.data.color_frames):
        parse_frames(frames, 12)


def test_no_two_files_share_a_run_folder():
    outs = {}
    for path in FILES:
        if path.name != "base.txt":
            outs.setdefault(config_from_file(path).out, []).append(name_of(path))
    assert {out: names for out, names in outs.items() if len(names) > 1} == {}


@pytest.mark.parametrize("path", sorted(PAPER.glob("*.txt")), ids=name_of)
def test_paper_losses_and_schedule(path):
    config = config_from_file(path)
    assert nonzero(config.static_stage.losses) == STATIC_WEIGHTS
    assert nonzero(config.dynamic_stage.losses) == DYNAMIC_WEIGHTS
    for stage in (config.static_stage, config.dynamic_stage):
        assert (stage.rays, stage.samples, stage.surface_samples) == (1024, 64, 0)
        assert (stage.lr, stage.decay_steps, stage.density_noise, stage.moving_only) == (5e-4, 80_000, 1.0, False)
    assert config.train.clip_norm == 10.0 and config.data.factor == 2 and config.data.space == "ndc"
    if not path.stem.startswith("adaptation"):
        assert (config.static_stage.steps, config.dynamic_stage.steps) == (60_000, 80_000)


def test_paper_sizes():
    config = config_from_file(PAPER / "base.txt")
    model, encoder = config.model, config.encoder
    assert (encoder.kind, encoder.static_kind, encoder.surface_cues, encoder.pca) == ("slowonly", "resnet18", False, 0)
    assert (model.encoding, model.octaves, model.flow_encoding, model.flow_octaves) == ("frequency", 10, "frequency", 10)
    assert (model.code_hidden, model.code_width) == (4096, 256)
    assert (model.static_width, model.static_blocks, model.static_view_dependent) == (256, 5, True)
    assert (model.dynamic_width, model.dynamic_code_blocks, model.dynamic_blocks) == (128, 2, 3)
    assert (model.flow_width, model.flow_substeps, model.flow_length) == (128, 2, 3)
    assert (model.aggregator, model.displacement, model.ray_attention) == ("attention", True, False)
    assert (model.attention_width, model.attention_heads, model.attention_head_width) == (64, 4, 4)
    assert config.render.flow_density_prior and config.render.samples == 64


def test_paper_base_spells_out_the_defaults():
    values = read_config_file(PAPER / "base.txt").values
    changed = config_differences(Config(), config_from_file(PAPER / "base.txt"))
    computing = {"train.save_every", "train.images_every", "train.recompute"}  # none of them changes a result
    assert set(changed) == {"data.dir", "data.static_classes"} | computing
    stages = ("static_stage", STATIC_WEIGHTS), ("dynamic_stage", DYNAMIC_WEIGHTS)
    spelled = {f"{stage}.losses.{name}" for stage, weights in stages for name in weights}
    assert spelled <= set(values)


@pytest.mark.parametrize("name", LABELLED)
def test_paper_labelled_frames(name):
    data = config_from_file(PAPER / f"{name}.txt").data
    assert list(parse_frames(data.labelled_frames, 12)) == LABELLED[name]
    assert data.color_frames == data.labelled_frames  # as published; `all` is the option: tracking_25_all_colors


def test_paper_scenes():
    scenes = {name: config_from_file(PAPER / f"{name}.txt").data.scenes for name in (
        "full", "multi_balloon", "multi_jumping_skating")}
    assert scenes == {"full": ("Balloon1",), "multi_balloon": ("Balloon1", "Balloon2"),
                      "multi_jumping_skating": ("Jumping", "Skating")}
    assert all(config_from_file(path).data.labelled_frames == "all" for path in PAPER.glob("multi*.txt"))


@pytest.mark.parametrize("path", sorted(TASKS.glob("weak*.txt")) + [TASKS / "tracking_25_all_colors.txt"], ids=name_of)
def test_tasks_of_both_forms_agree(path):
    fast, published = config_from_file(path).data, config_from_file(PAPER / path.name).data
    for key in ("labelled_frames", "color_frames", "label_kind", "label_fraction"):
        assert getattr(fast, key) == getattr(published, key)


@pytest.mark.parametrize("steps", [500, 2000])
def test_adaptation_fine_tunes_a_model_of_several_scenes_on_a_new_one(steps):
    config, source = config_from_file(PAPER / f"adaptation_{steps}.txt"), config_from_file(PAPER / "multi_balloon.txt")
    assert config.dynamic_stage.steps == steps and config.init.startswith(f"{source.out}/")
    assert not set(config.data.scenes) & set(source.data.scenes)
    assert config.model == source.model and config.encoder == source.encoder


def test_the_seven_nvidia_scenes():
    configs = [config_from_file(path) for path in sorted((CONFIGS / "nvidia").glob("*.txt")) if path.name != "base.txt"]
    assert {config.data.scenes for config in configs} == {(scene,) for scene in NVIDIA_SCENES}
    assert {config.data.factor for config in configs} == {2}  # 480x270
    assert {config.model.encoding for config in configs} == {"planes"}


def test_all_stages_of_the_nvidia_scenes_are_longer_than_the_demos():
    demo, nvidia = (stage_fields(config_from_file(CONFIGS / name)) for name in ("balloon.txt", "nvidia/base.txt"))
    assert all(stage.steps > 5 * demo[name].steps for name, stage in nvidia.items())
    assert all(stage.decay_steps == stage.steps for stage in nvidia.values())


ONE_KEY = [path for folder in ("baselines", "ablations", "robustness") for path in sorted(CONFIGS.glob(f"{folder}/*.txt")) if path != NERF_TIME]


@pytest.mark.parametrize("path", ONE_KEY, ids=name_of)
def test_baselines_and_ablations_change_one_key(path):
    file = read_config_file(path)
    keys = set(file.values) - {"out"}
    assert len(keys) == 1
    differences = config_differences(config_from_file(file.base), config_from_file(path))
    assert set(differences) == keys | {"out"}, f"{name_of(path)} equals its base: choose another value"


def test_nerf_and_time_drops_terms_and_features_and_keeps_the_rest():
    """The same budget and the same weights of the terms that one field of space and time can have."""
    base, config = config_from_file(CONFIGS / "laptop.txt"), config_from_file(NERF_TIME)
    before, after = nonzero(base.dynamic_stage.losses), nonzero(config.dynamic_stage.losses)
    assert after == {name: weight for name, weight in before.items() if name in after}
    assert set(after) == {"rgb_full", "rgb_dynamic", "semantic_full", "semantic_dynamic", "plane_variation"}
    assert config.dynamic_stage.steps == base.static_stage.steps + base.dynamic_stage.steps
    others = {key for key in config_differences(base, config) if ".losses." not in key}
    assert others == {"out", "model.aggregator", "static_stage.steps", "flow_stage.steps", "dynamic_stage.steps", "dynamic_stage.decay_steps",
                      "dynamic_stage.moving_only"}


@pytest.mark.parametrize("name", LABELLED)
def test_tasks_in_the_fast_form_label_the_published_frames(name):
    task, data = config_from_file(TASKS / f"{name}.txt"), config_from_file(PAPER / f"{name}.txt").data
    assert (task.data.labelled_frames, task.data.color_frames) == (data.labelled_frames, data.color_frames)
    laptop = config_from_file(CONFIGS / "laptop.txt")
    steps = {"model.flow_substeps"} if name.startswith(("tracking", "completion")) else set()  # as published there
    assert set(config_differences(laptop, task)) == {"out", "data.labelled_frames", "data.color_frames"} | steps


@pytest.mark.parametrize("path", sorted(TASKS.glob("*_all_colors.txt")), ids=name_of)
def test_tracking_with_all_colours_differs_in_them_alone(path):
    task = config_from_file(path.with_stem(path.stem.removesuffix("_all_colors")))
    assert set(config_differences(task, config_from_file(path))) == {"out", "data.color_frames"}


def test_adaptation_and_scratch_differ_in_the_start_alone():
    source, adapted, scratch = (config_from_file(TASKS / f"{name}.txt") for name in ("multi", "adaptation", "adaptation_scratch"))
    assert set(config_differences(adapted, scratch)) == {"out", "init"} and not scratch.init
    assert adapted.init == str(checkpoint_path(f"{source.out}/checkpoints", total_steps(source)))
    assert not set(adapted.data.scenes) & set(source.data.scenes)
    assert (adapted.model, adapted.encoder) == (source.model, source.encoder)


def test_the_demo_needs_no_download_and_finds_its_scene():
    config = config_from_file(CONFIGS / "balloon.txt")
    assert config.data.scenes == ("balloon",) and config.data.dir == DataConfig().dir == "data"
    assert config.out == "runs/balloon"  # the folder that the Makefile looks into
    assert not config.encoder.video_weights and config.encoder.image_weights != "download"
