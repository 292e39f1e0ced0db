"""Pictures and videos on disk: readable, complete or absent."""

import os

import imageio.v2 as imageio
import numpy as np
import pytest

from semflow.utils.errors import SemflowError
from semflow.viz import video


def ramp(count: int, height: int, width: int) -> list[np.ndarray]:
    return [np.full((height, width, 3), (20 * i, 100, 200 - 20 * i), dtype=np.uint8) for i in range(count)]


def test_png_round_trip_replaces_whole_files(tmp_path):
    path = tmp_path / "deep" / "0000.png"
    image = np.random.default_rng(0).integers(0, 255, (7, 5, 3), dtype=np.uint8)
    video.write_png(path, image)
    assert (video.read_png(path) == image).all()
    video.write_png(path, 255 - image)
    assert (video.read_png(path) == 255 - image).all()
    assert [p.name for p in path.parent.iterdir()] == ["0000.png"]


@pytest.mark.parametrize("write", [lambda path: video.write_png(path, ramp(1, 8, 8)[0]),
                                   lambda path: video.write_video(path, ramp(2, 16, 16), fps=5)], ids=["png", "mp4"])
def test_the_content_is_on_the_disk_before_the_name(write, tmp_path, monkeypatch):
    path, flushed = tmp_path / "0000.mp4", []
    flush = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (flushed.append(path.exists()), flush(file)))
    write(path)
    assert flushed == [False, True]  # the file under its temporary name, then the folder that names it


def test_single_channel_png_keeps_its_ids(tmp_path):
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    video.write_png(tmp_path / "labels.png", ids)
    assert (imageio.imread(tmp_path / "labels.png") == ids).all()


@pytest.mark.parametrize(("height", "width"), [(32, 48), (31, 45)])
def test_video_has_its_frames_size_rate_and_colours(tmp_path, height, width):
    path = tmp_path / "rgb.mp4"
    frames = ramp(7, height, width)
    video.write_video(path, iter(frames), fps=10)
    with imageio.get_reader(path) as reader:
        meta = reader.get_meta_data()
        decoded = [np.asarray(image) for image in reader]  # len(reader) is infinite: list() fails
    assert meta["fps"] == 10 and meta["size"] == (width + width % 2, height + height % 2)
    assert meta["codec"] == "h264" and "yuv420p" in meta["pix_fmt"]
    assert len(decoded) == 7
    for expected, got in zip(frames, decoded):
        assert np.abs(got[:height, :width].astype(int) - expected).mean() < 4
    assert [p.name for p in tmp_path.iterdir()] == ["rgb.mp4"]


def test_padding_repeats_the_edge_of_odd_sizes_only():
    image = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    padded = video.pad_even(image)
    assert padded.shape == (4, 4, 3) and (padded[:3, :3] == image).all() and (padded[3, 3] == image[2, 2]).all()
    assert video.pad_even(image[:2, :2]).shape == (2, 2, 3)


def test_an_interrupted_video_leaves_the_old_one(tmp_path):
    path = tmp_path / "rgb.mp4"
    path.write_bytes(b"old")

    def broken():
        yield ramp(1, 16, 16)[0]
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        video.write_video(path, broken(), fps=5)
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["rgb.mp4"]


def test_no_frames_is_an_error_without_a_file(tmp_path):
    with pytest.raises(ValueError, match="at least one frame"):
        video.write_video(tmp_path / "rgb.mp4", [], fps=5)
    assert list(tmp_path.iterdir()) == []


def test_missing_ffmpeg_is_one_line_with_the_remedy(monkeypatch, tmp_path):
    import imageio_ffmpeg

    def absent():
        raise RuntimeError("No ffmpeg exe could be found.\nInstall it")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", absent)
    with pytest.raises(SemflowError, match="pip install") as caught:
        video.write_video(tmp_path / "rgb.mp4", ramp(1, 8, 8), fps=5)
    assert "\n" not in str(caught.value)
