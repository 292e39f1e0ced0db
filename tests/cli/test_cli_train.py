"""`semflow train`: what is decided before the training loop starts."""

import sys
import types

import pytest

from semflow.cli.main import main
from semflow.config.parser import parse_config
from semflow.engine.checkpoint import checkpoint_path, save_checkpoint
from semflow.engine.run_folder import RunFolder


@pytest.fixture
def trained(monkeypatch):
    """Stands in for the trainer; collects (configuration, checkpoint to resume from)."""
    calls = []
    module = types.ModuleType("semflow.engine.trainer")
    module.train = lambda config, resume, overwrite: calls.append((config, resume, overwrite)) or True
    monkeypatch.setitem(sys.modules, "semflow.engine.trainer", module)
    return calls


@pytest.fixture
def made(monkeypatch):
    """Stands in for the maker of a scene; collects the folders."""
    folders = []
    monkeypatch.setattr("semflow.data.synthetic.maker.make_scene", lambda root, name, **spec: folders.append(root / name))
    return folders


@pytest.fixture
def argv(tmp_path):
    return ["--out", str(tmp_path / "run"), "--data_dir", str(tmp_path / "data"), "--device", "cpu", "--scene", "Other"]


def start(argv, step=None, finished=False) -> RunFolder:
    config = parse_config(argv)
    folder = RunFolder(config.out)
    folder.create(config)
    if step is not None:
        save_checkpoint(checkpoint_path(folder.checkpoints, step), {"step": step})
    if finished:
        folder.mark_finished({})
    return folder


def test_a_new_run(trained, made, argv, capsys):
    assert main(["train", *argv]) == 0
    assert trained == [(parse_config(argv), None, False)] and made == []
    assert "new run in" in capsys.readouterr().out


def test_the_demo_scene_is_made_where_it_is_missing(trained, made, argv, tmp_path, capsys):
    argv[-1] = "balloon"
    assert main(["train", *argv]) == 0
    assert made == [tmp_path / "data" / "balloon"] and len(trained) == 1
    assert "balloon is missing: making this demo scene" in capsys.readouterr().out


def test_an_existing_demo_scene_is_left_alone(trained, made, argv, tmp_path):
    argv[-1] = "balloon"
    (tmp_path / "data" / "balloon").mkdir(parents=True)
    assert main(["train", *argv]) == 0
    assert made == [] and len(trained) == 1


@pytest.mark.parametrize("extra", [[], ["--resume"]])
def test_an_unfinished_run_goes_on(trained, made, argv, capsys, extra):
    folder = start(argv, step=40)
    assert main(["train", *argv, *extra]) == 0
    assert trained[0][1] == checkpoint_path(folder.checkpoints, 40)
    assert "going on from step-00000040.safetensors" in capsys.readouterr().out


def test_a_training_that_a_signal_ended_has_a_status_of_its_own(trained, made, argv, monkeypatch):
    monkeypatch.setattr(sys.modules["semflow.engine.trainer"], "train", lambda *_, **options: False)
    assert main(["train", *argv]) == 130


def test_a_run_without_checkpoint_starts_again(trained, made, argv, capsys):
    start(argv)
    assert main(["train", *argv]) == 0
    assert trained[0][1] is None and "starting from step 0" in capsys.readouterr().out


@pytest.mark.parametrize("extra", [[], ["--resume"]])
def test_a_finished_run_is_left_alone(trained, made, argv, capsys, extra):
    start(argv, step=40, finished=True)
    assert main(["train", *argv, *extra]) == 0
    assert trained == [] and "finished already" in capsys.readouterr().out


def test_another_configuration_is_refused(trained, made, argv, capsys):
    start(argv, step=40)
    assert main(["train", *argv, "--seed", "3"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "train.seed (0 there, 3 now)" in error and trained == []


def test_a_run_without_checkpoint_is_started_again_in_another_way(trained, made, argv, capsys):
    start(argv)
    assert main(["train", *argv, "--seed", "3"]) == 0 and trained[0][0].train.seed == 3


def test_overwrite_leaves_it_to_the_trainer_to_move_the_old_run_aside(trained, made, argv):
    folder = start(argv, step=40)
    assert main(["train", *argv, "--seed", "3", "--overwrite"]) == 0
    assert trained[0][1:] == (None, True) and folder.newest_checkpoint.name == "step-00000040.safetensors"


@pytest.mark.parametrize("extra", [[], ["--overwrite"]])
def test_a_folder_in_which_a_training_runs_is_left_alone(trained, made, argv, capsys, extra):
    with start(argv, step=40).locked():
        assert main(["train", *argv, *extra]) == 2
    assert "another training runs in it" in capsys.readouterr().err and trained == []
    assert main(["train", *argv, *extra]) == 0 and len(trained) == 1


def test_a_mistyped_scene_moves_nothing(argv, capsys, tmp_path):
    folder = start(argv, step=40)
    assert main(["train", *argv, "--overwrite"]) == 2  # there are no data at all
    assert "no such folder" in capsys.readouterr().err
    assert folder.newest_checkpoint and not (tmp_path / "run.bak-1").exists()


@pytest.mark.parametrize("extra, part", [
    (["--resume"], "nothing to resume"),
    (["--resume", "--overwrite"], "not allowed with"),
    (["--device", "cpuu"], "twice"),
    (["--train.threads", "x"], "train.threads"),
    (["--steps", "0", "--flow_stage.steps", "0"], "nothing to train"),
])
def test_mistakes_come_before_anything_is_made(trained, made, argv, capsys, tmp_path, extra, part):
    argv[-1] = "balloon"
    assert main(["train", *argv, *extra]) == 2
    assert part in capsys.readouterr().err and trained == made == [] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("out", [".", "inside/.."])
def test_the_working_directory_cannot_be_moved_aside(trained, made, argv, capsys, monkeypatch, out):
    folder = start(argv)
    (folder.path / "inside").mkdir()
    monkeypatch.chdir(folder.path)
    argv[1] = out
    assert main(["train", *argv, "--overwrite"]) == 2
    assert "working directory" in capsys.readouterr().err and folder.config_file.exists()


def test_a_device_that_is_not_there_moves_nothing(trained, made, argv, capsys, tmp_path):
    folder = start(argv)
    argv[argv.index("cpu")] = "cuda:99"
    assert main(["train", *argv, "--overwrite"]) == 2
    assert "cuda:99" in capsys.readouterr().err and folder.path.exists()
