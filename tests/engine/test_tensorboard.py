"""TensorBoard: what is written can be read back."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from semflow.engine.tensorboard import TensorBoard


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_scalars_and_images_come_back(tmp_path):
    import imageio.v3 as imageio

    picture = torch.tensor([[[0.0, 0.5, 1.0], [2.0, -1.0, 1.0]]], requires_grad=True)  # (1, 2, 3)
    with TensorBoard(tmp_path) as board:
        board.scalars({"loss/rgb": torch.tensor(0.25), "lr": 1e-3}, step=7)
        board.image("panel", picture, step=7)
        board.flush()
        events = read(tmp_path)
    assert [(event.step, event.value) for event in events.Scalars("loss/rgb")] == [(7, 0.25)]
    assert events.Scalars("lr")[0].value == pytest.approx(1e-3)
    pixels = imageio.imread(events.Images("panel")[0].encoded_image_string)
    assert np.array_equal(pixels, [[[0, 127, 255], [255, 0, 255]]])


def test_a_resumed_run_hides_what_it_does_again(tmp_path):
    for resumed_at, steps, value in ((None, (1, 2, 3), 1.0), (2, (3, 4), 5.0)):
        with TensorBoard(tmp_path, resumed_at) as board:
            for step in steps:
                board.scalars({"loss": value}, step)
    assert [(event.step, event.value) for event in read(tmp_path).Scalars("loss")] == [(1, 1.0), (2, 1.0), (3, 5.0), (4, 5.0)]


def test_nothing_written_makes_nothing(tmp_path):
    with TensorBoard(tmp_path / "board") as board:
        board.flush()
    assert not (tmp_path / "board").exists()


def test_channels_first_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\(H, W, 3\), got \(3, 4, 5\)"):
        TensorBoard(tmp_path).image("panel", torch.zeros(3, 4, 5), 0)


def test_importing_it_does_not_import_tensorboard():
    code = "import sys, semflow.engine.tensorboard; sys.exit('tensorboard' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
