"""Every task runs from its configuration, made tiny; labels of unlabelled frames are never used."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from semflow.config.parser import config_from_file
from semflow.config.schema import Config
from semflow.data.frame_lists import parse_frames
from semflow.data.synthetic import make_scene
from semflow.engine.checkpoint import load_checkpoint
from semflow.engine.run_folder import RunFolder
from semflow.engine.stages import stage_fields, total_steps
from semflow.engine.trainer import Trainer

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ADAPTATION = CONFIGS / "tasks" / "adaptation.txt"
RUNNABLE = [*sorted((CONFIGS / "tasks").glob("*.txt")), *sorted((CONFIGS / "baselines").glob("*.txt"))]
RUNNABLE.remove(ADAPTATION)  # starts from a run: see its own test
FRAMES, STEPS = 12, 2  # steps of a stage
SCENES = ("balloon", "flag", "mixed")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Scenes of twelve frames; they may hold the same, only their names are told apart here."""
    root = tmp_path_factory.mktemp("scenes")
    make_scene(root, SCENES[0], frames=FRAMES, height=16, width=24)
    shutil.rmtree(root / SCENES[0] / "multiview_GT")
    shutil.rmtree(root / SCENES[0] / "multiview_GT_semantic")
    for name in SCENES[1:]:
        shutil.copytree(root / SCENES[0], root / name)
    return root


def tiny(path: Path, data: Path, out: Path, steps: int = STEPS) -> Config:
    """A shipped configuration with few steps, rays and channels, on the scenes in `data`."""
    config = config_from_file(path)
    stages = {
        name: replace(stage, steps=min(stage.steps, steps), rays=16, samples=6, surface_samples=2, warmup_steps=0)
        for name, stage in stage_fields(config).items()}
    sizes = {"plane_levels": (8,), "plane_channels": 2, "static_width": 8, "dynamic_width": 8, "flow_width": 8}
    return replace(
        config, out=str(out), device="cpu", data=replace(config.data, dir=str(data)), **stages,
        model=replace(config.model, **sizes), train=replace(config.train, save_every=99, images_every=0, threads=1))


def trained(config: Config) -> Trainer:
    """The trainer of a finished run."""
    trainer = Trainer(config)
    assert trainer.run() and trainer.step == total_steps(config) > 0
    return trainer


def same_weights(first: Trainer, second: Trainer) -> bool:
    one, two = first.model.state_dict(), second.model.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_task_and_baseline_takes_steps(path, data, tmp_path):
    trainer = trained(tiny(path, data, tmp_path))
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
    config, labels = trainer.config.data, trainer.scenes[0].data.labels
    kept = (labels >= 0).flatten(1).float().mean(1)
    labelled = parse_frames(config.labelled_frames, FRAMES)
    assert kept.nonzero()[:, 0].tolist() == list(labelled)
    assert ((kept[list(labelled)] == 1) == (config.label_kind == "full")).all()
    assert trainer.scenes[0].supervision.color_valid.nonzero()[:, 0].tolist() == list(parse_frames(config.color_frames, FRAMES))


def test_adaptation_goes_on_with_what_the_scenes_share(data, tmp_path):
    multi = trained(tiny(CONFIGS / "tasks" / "multi.txt", data, tmp_path / "multi"))
    start = str(RunFolder(tmp_path / "multi").require_checkpoint())
    adapted = Trainer(replace(tiny(ADAPTATION, data, tmp_path / "adapted"), init=start))
    assert torch.equal(adapted.model.flow.last.weight, multi.model.flow.last.weight)
    assert adapted.run()
    scratch = trained(tiny(CONFIGS / "tasks" / "adaptation_scratch.txt", data, tmp_path / "scratch"))
    assert not same_weights(adapted, scratch)
    assert len(load_checkpoint(RunFolder(tmp_path / "adapted").require_checkpoint())["scenes"]) == 1


@pytest.mark.parametrize("task", ["tracking_25", "tracking_50_all_colors", "completion_50"])
def test_labels_of_unlabelled_frames_are_never_used(task, data, tmp_path):
    """Their files are overwritten, with other labels or with no image at all, or deleted: bit-identical training."""
    path = CONFIGS / "tasks" / f"{task}.txt"
    whole = trained(tiny(path, data, tmp_path / "whole", steps=8))
    shutil.copytree(data, tmp_path / "data")
    folder = tmp_path / "data" / SCENES[0] / "SegmentationClass_train"
    labelled = parse_frames(whole.config.data.labelled_frames, FRAMES)
    unlabelled = [frame for frame in range(FRAMES) if frame not in labelled]
    for number, frame in enumerate(unlabelled):
        file = folder / f"{frame:03d}.png"
        file.unlink()
        if number % 3 == 0:
            file.write_bytes(b"destroyed")
        elif number % 3 == 1:
            shutil.copy(folder / f"{labelled[0]:03d}.png", file)
    destroyed = trained(tiny(path, tmp_path / "data", tmp_path / "destroyed", steps=8))
    assert same_weights(whole, destroyed)
    for frame in labelled:  # the labels that are given do matter
        shutil.copy(data / SCENES[0] / "SegmentationClass_train" / f"{unlabelled[-1]:03d}.png", folder / f"{frame:03d}.png")
    assert not same_weights(whole, trained(tiny(path, tmp_path / "data", tmp_path / "other", steps=8)))


def test_motion_masks_never_derive_from_labels(data, tmp_path):
    """Without any label file the masks are the same."""
    shutil.copytree(data / SCENES[0], tmp_path / "data" / SCENES[0])
    shutil.rmtree(tmp_path / "data" / SCENES[0] / "SegmentationClass_train")
    path = CONFIGS / "tasks" / "full.txt"
    config = tiny(path, tmp_path / "data", tmp_path / "none")
    bare = Trainer(replace(config, data=replace(config.data, labelled_frames="none")))
    whole = Trainer(tiny(path, data, tmp_path / "whole"))
    assert whole.scenes[0].data.motion.any() and (bare.scenes[0].data.labels == -1).all()
    assert torch.equal(whole.scenes[0].data.motion, bare.scenes[0].data.motion)
