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
    save_checkpoint(checkpoint_path(folder.checkpoints, 3), {"step": 3})
    folder.create(replace(config, device="auto"))
    assert folder.config_file.read_text() == before


@pytest.fixture
def unfinished(folder, config):
    folder.create(config)
    save_checkpoint(checkpoint_path(folder.checkpoints, 3), {"step": 3})
    return folder


def test_a_run_may_be_moved_and_change_its_device(unfinished, config):
    assert unfinished.state(replace(config, out="elsewhere", device="cuda")) is RunState.UNFINISHED


@pytest.mark.parametrize("change", [
    {"cuda_graphs": False}, {"recompute": True}, {"compile": True}, {"threads": 3}, {"save_every": 7}, {"keep": 9},
    {"log_every": 3}, {"images_every": 0}])
def test_what_no_result_shows_may_differ(unfinished, config, change):
    assert unfinished.state(replace(config, train=replace(config.train, **change))) is RunState.UNFINISHED


@pytest.mark.parametrize("part, change", [
    ("train", {"bf16": True}), ("train", {"tf32": True}), ("train", {"clip_norm": 1.0}), ("train", {"accumulate": 2}),
    ("render", {"samples": 9}), ("render", {"flow_density_prior": False}), ("data", {"factor": 4})])
def test_what_changes_results_may_not(unfinished, config, part, change):
    with pytest.raises(ConfigError, match=f"{part}.{next(iter(change))} "):
        unfinished.state(replace(config, **{part: replace(getattr(config, part), **change)}))


def test_data_may_have_been_moved(unfinished, config, tmp_path):
    """A trainer that goes on compares the scenes; with a finished run nobody does."""
    moved = replace(config, data=replace(config.data, dir="elsewhere", labels_dir="labels"))
    assert unfinished.state(moved) is RunState.UNFINISHED
    there = replace(config, data=replace(config.data, dir=str(tmp_path / "scenes")))
    unfinished.move_aside()
    unfinished.create(there)
    unfinished.mark_finished({})
    elsewhere = replace(config, data=replace(config.data, dir=str(tmp_path / "moved")))
    assert unfinished.state(elsewhere) is RunState.FINISHED
    (tmp_path / "scenes").mkdir()
    with pytest.raises(ConfigError, match="data.dir"):
        unfinished.state(elsewhere)


def test_a_run_without_a_checkpoint_gives_way_to_another_configuration(folder, config):
    folder.create(config)
    other = replace(config, train=replace(config.train, seed=5))
    assert folder.state(other) is RunState.STARTED
    folder.create(other)
    assert folder.config() == other


def test_another_configuration_is_refused_naming_keys_and_remedy(unfinished, folder, config):
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


def test_evaluations_of_baselines_do_not_make_a_run(folder, config):
    (folder.path / "eval_copying" / "corrected").mkdir(parents=True)
    assert folder.state(config) is RunState.NEW
    folder.create(config)
    assert folder.config() == config


def test_a_broken_configuration_is_named(folder, config):
    folder.create(config)
    folder.config_file.write_text("nonsense")
    with pytest.raises(ConfigError, match="config.txt, line 1"):
        folder.state(config)


def test_a_missing_run_is_named(folder):
    with pytest.raises(CheckpointError, match="no such run folder"):
        folder.require_checkpoint()


def test_one_training_at_a_time(folder, config):
    with folder.locked():
        assert not folder.path.exists()
    folder.create(config)
    with folder.locked():
        for attempt in (RunFolder(folder.path).locked().__enter__, folder.move_aside):
            with pytest.raises(ConfigError, match="another training runs in it"):
                attempt()
    with folder.locked():
        assert folder.path.exists()


def test_move_aside_keeps_everything(folder, config):
    assert folder.move_aside() is None
    folder.create(config)
    folder.log("first line")
    folder.log("second line")
    moved = folder.move_aside()
    assert moved.name == "run.bak-1" and folder.state(config) is RunState.NEW
    lines = (moved / "log.txt").read_text().splitlines()
    assert [line[20:] for line in lines] == ["first line", "second line"]
