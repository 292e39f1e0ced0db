"""Runs that go on, or start from another, when the scenes are not those of before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from trainer_toys import STEPS, assert_same, tiny_config, trained

from semflow.config.schema import Config
from semflow.data.synthetic import make_scene
from semflow.engine.checkpoint import load_checkpoint, save_checkpoint
from semflow.engine.loading import load_run
from semflow.engine.run_folder import RunFolder
from semflow.engine.trainer import Trainer
from semflow.utils.errors import CheckpointError, ConfigError, DataError


@pytest.fixture
def config(tmp_path) -> Config:
    return scenes_of(tiny_config(tmp_path, tmp_path / "run"), tmp_path / "first")


def scenes_of(config: Config, root: Path, **spec) -> Config:
    """The same configuration on another scene of the same name."""
    make_scene(root, "one", **{"seed": 0, "frames": 4, "height": 24, "width": 32} | spec)
    return replace(config, data=replace(config.data, dir=str(root)))


def rename_class(root: Path) -> None:
    file = root / "labelmap.txt"
    name = file.read_text().splitlines()[1].split(":")[0]
    file.write_text(file.read_text().replace(name, "yeti"))


@pytest.mark.parametrize("spec, reason", [
    ({"frames": 5}, "scene one has 5 frames, not 4"),
    ({"width": 48}, "scene one has frames of 24x12, not 16x12"),
    ({"seed": 9}, "scene one has other images"),
])
def test_a_run_does_not_go_on_with_another_scene(config, tmp_path, spec, reason):
    path = RunFolder(trained(config)).require_checkpoint()
    with pytest.raises(CheckpointError, match=reason):
        Trainer(scenes_of(config, tmp_path / "scenes", **spec), path)


def test_a_run_goes_on_with_moved_data_but_not_with_other_classes(config, tmp_path):
    path = RunFolder(trained(config)).require_checkpoint()
    RunFolder(config.out).finished_file.unlink()
    moved = scenes_of(config, tmp_path / "scenes")
    assert Trainer(moved, path).step == 2 * STEPS
    rename_class(tmp_path / "scenes")
    for other in (moved, replace(moved, init=str(path), out=str(tmp_path / "adapted"))):
        with pytest.raises(CheckpointError, match="classes .* yeti"):
            Trainer(other, None if other.init else path)


def test_an_old_run_is_moved_aside_when_the_data_are_there(config, tmp_path):
    trained(config)
    with pytest.raises(DataError):
        Trainer(replace(config, data=replace(config.data, scenes=("two",))), overwrite=True)
    assert RunFolder(config.out).finished_file.exists()
    Trainer(config, overwrite=True)
    assert (tmp_path / "run.bak-1" / "finished.json").exists() and not RunFolder(config.out).finished_file.exists()


def test_a_trainer_holds_the_lock(config):
    trainer = Trainer(config)
    with RunFolder(config.out).locked(), pytest.raises(ConfigError, match="another training"):
        trainer.run()
    assert trainer.run()


def test_adaptation_starts_from_a_run_folder_too(config, tmp_path):
    own = Trainer(replace(config, init=trained(config), out=str(tmp_path / "folder"))).model.state_dict()
    file = str(RunFolder(config.out).require_checkpoint())
    assert_same(own, Trainer(replace(config, init=file, out=str(tmp_path / "file"))).model.state_dict())


def test_reduced_features_keep_the_basis_that_the_networks_learned_to_read(config, tmp_path):
    config = replace(config, encoder=replace(config.encoder, pca=3))
    trainer = Trainer(config)
    assert trainer.run() and "reduced to 3 channels, with " in RunFolder(config.out).log_file.read_text()
    maps = trainer.contexts[0].video.maps
    assert maps.shape[-1] == 3
    assert torch.equal(load_run(Path(config.out), device="cpu").renderer.scenes["one"].video.maps, maps)
    other = scenes_of(config, tmp_path / "scenes", seed=9)
    adapted = Trainer(replace(other, init=config.out, out=str(tmp_path / "adapted")))
    assert torch.equal(adapted.model.video_encoder.basis, trainer.model.video_encoder.basis)
    scratch = Trainer(replace(other, out=str(tmp_path / "scratch")))
    assert not torch.allclose(scratch.model.video_encoder.basis, trainer.model.video_encoder.basis)


def test_weights_of_another_version_are_one_line(config):
    path = RunFolder(trained(config)).require_checkpoint()
    state = load_checkpoint(path)
    state["model"]["static.zeroth.weight"] = state["model"].pop("static.first.weight")
    save_checkpoint(path, state)
    with pytest.raises(CheckpointError, match="step-.*static.first.weight is missing.*another version of semflow"):
        Trainer(config, path)
