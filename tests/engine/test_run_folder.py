"""The run folder: what it holds and when a run may go on there."""

from dataclasses import replace

import pytest

from semflow.config.schema import Config
from semflow.engine.checkpoint import checkpoint_path, save_checkpoint
from semflow.engine.run_folder import RunFolder, RunState
from semflow.utils.errors import CheckpointError, ConfigError


@pytest.fixture
def config(tmp_path):
    return Config(out=str(tmp_path / "run"), device="cpu")


@pytest.fixture
def folder(config):
    return RunFolder(config.out)


def test_the_life_of_a_run(folder, config):
    assert folder.state(config) is RunState.NEW and not folder.path.exists()
    folder.create(config)
    assert folder.config() == config and folder.state(config) is RunState.STARTED
    assert all(part.is_dir() for part in (folder.checkpoints, folder.tensorboard, folder.eval, folder.renders))
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        folder.require_checkpoint()
    save_checkpoint(checkpoint_path(folder.checkpoints, 3), {"step": 3})
    assert folder.state(config) is RunState.UNFINISHED
    assert folder.require_checkpoint() == folder.newest_checkpoint == checkpoint_path(folder.checkpoints, 3)
    folder.mark_finished({"step": 3})
    assert folder.state(config) is RunState.FINISHED


def test_create_again_changes_nothing(folder, config):
    folder.create(config)
    folder.config_file.write_text("# a comment of the user\n" + folder.config_file.read_text())
    before = folder.config_file.read_text()
    folder.create(replace(config, device="auto"))
    assert folder.config_file.read_text() == before


def test_a_run_may_be_moved_and_change_its_device(folder, config):
    folder.create(config)
    assert folder.state(replace(config, out="elsewhere", device="cuda")) is RunState.STARTED
    unrecorded = replace(config, train=replace(config.train, cuda_graphs=False))  # the remedy for what cannot be recorded
    assert folder.state(unrecorded) is RunState.STARTED


def test_another_configuration_is_refused_naming_keys_and_remedy(folder, config):
    folder.create(config)
    other = replace(config, train=replace(config.train, seed=5), data=replace(config.data, scenes=("A",)))
    for attempt in (folder.state, folder.create):
        with pytest.raises(ConfigError) as caught:
            attempt(other)
        message = str(caught.value)
        assert "train.seed (0 there, 5 now)" in message and "data.scenes" in message and "\n" not in message
        assert "--out" in message and "--overwrite" in message
    assert folder.config() == config


@pytest.mark.parametrize("kind", ["folder with files", "file"])
def test_something_else_is_not_taken_over(folder, config, kind):
    if kind == "file":
        folder.path.write_text("mine")
    else:
        folder.path.mkdir()
        (folder.path / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="no run folder"):
        folder.create(config)


def test_an_empty_folder_and_leftovers_of_a_killed_start_are_new(folder, config):
    folder.path.mkdir()
    (folder.path / ".config.ab.partial.txt").write_text("half")
    assert folder.state(config) is RunState.NEW


def test_a_broken_configuration_is_named(folder, config):
    folder.create(config)
    folder.config_file.write_text("nonsense")
    with pytest.raises(ConfigError, match="config.txt, line 1"):
        folder.state(config)


def test_a_missing_run_is_named(folder):
    with pytest.raises(CheckpointError, match="no such run folder"):
        folder.require_checkpoint()


def test_move_aside_keeps_everything(folder, config):
    assert folder.move_aside() is None
    folder.create(config)
    folder.log("first line")
    folder.log("second line")
    moved = folder.move_aside()
    assert moved.name == "run.bak-1" and folder.state(config) is RunState.NEW
    lines = (moved / "log.txt").read_text().splitlines()
    assert [line[20:] for line in lines] == ["first line", "second line"]
