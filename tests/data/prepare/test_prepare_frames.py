"""Which frames are taken of a video or a folder."""

import imageio.v3 as iio
import numpy as np
import pytest

from semflow.data.prepare.frames import candidates, read_frames, reduced, sharpness
from semflow.utils.errors import DataError
from semflow.viz.video import write_video

H, W = 48, 64


def picture(number: int, blurred: bool = False) -> np.ndarray:
    """A checkered image whose brightness tells its number; blurred: without the checks."""
    y, x = np.mgrid[:H, :W]
    checks = 0 if blurred else 20 * (((x // 4 + y // 4) % 2) * 2 - 1)
    return np.repeat((np.full((H, W), 40 + 8 * number) + checks)[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)


def number_of(image: np.ndarray) -> int:
    return round((float(image.mean()) - 40) / 8)


@pytest.fixture
def folder(tmp_path):
    for number in range(9):
        iio.imwrite(tmp_path / f"{number + 1}.png", picture(number))
    return tmp_path


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "film.mp4"
    write_video(path, [picture(number, blurred=number == 10) for number in range(21)], fps=10)
    return path


def test_a_folder_gives_all_its_images_in_the_order_of_their_numbers(folder):
    frames = read_frames(folder)
    assert [number_of(image) for image in frames.images] == list(range(9))
    assert frames.sources == tuple(f"{i}.png" for i in range(1, 10)) and frames.available == 9 and frames.full_width == W


def test_some_are_spread_evenly_between_start_and_end(folder):
    assert [number_of(image) for image in read_frames(folder, 3).images] == [0, 4, 8]
    assert [number_of(image) for image in read_frames(folder, 3, start=2, end=6).images] == [2, 4, 6]


def test_a_video_is_read_by_its_seconds_and_a_blurred_frame_is_passed_over(video):
    frames = read_frames(video, 3)
    numbers = [number_of(image) for image in frames.images]
    assert frames.available == 21 and frames.sources[0].endswith(" s")
    assert abs(numbers[0]) <= 2 and abs(numbers[2] - 20) <= 2
    assert numbers[1] != 10 and abs(numbers[1] - 10) <= 2
    assert [number_of(image) for image in read_frames(video, 11, start=0.0, end=1.0).images] == [*range(10), 10]


def test_candidates_are_near_their_times_and_no_frame_is_in_two_groups():
    times = [0.1 * i for i in range(101)]
    groups = candidates(times, range(100, 201), 5)
    assert [group[0] for group in groups] == [100, 125, 150, 175, 200]
    taken = [index for group in groups for index in group]
    assert len(taken) == len(set(taken))
    assert all(abs(index - group[0]) <= 6 for group in groups for index in group)
    assert [len(group) for group in candidates(times, range(101), 101)] == [1] * 101


def test_sharpness_falls_with_blur_and_reduction_keeps_the_shape():
    assert sharpness(picture(3)) > 10 * sharpness(picture(3, blurred=True))
    assert reduced(np.zeros((1080, 1920, 3), np.uint8), 540).shape == (540, 960, 3)
    assert reduced(np.zeros((1080, 607, 3), np.uint8), 540).shape == (540, 304, 3)
    small = picture(0)
    assert reduced(small, 540) is small and reduced(small, None) is small


def test_reduced_frames_remember_how_wide_they_were(folder):
    frames = read_frames(folder, height=24)
    assert frames.images[0].shape == (24, 32, 3) and frames.full_width == W


@pytest.mark.parametrize(("change", "message"), [
    (lambda f: f / "none.mp4", "no such file or folder"),
    (lambda f: [p.unlink() for p in f.iterdir()] and f, "holds no png or jpg image"),
    (lambda f: (f / "x.mp4").write_bytes(b"no video") and f / "x.mp4", "cannot be read as a video"),
    (lambda f: iio.imwrite(f / "3.png", np.zeros((10, 10, 3), np.uint8)) or f, "several sizes"),
])
def test_what_cannot_be_read_is_one_line(folder, change, message):
    source = change(folder)
    with pytest.raises(DataError, match=message) as error:
        read_frames(source)
    assert "\n" not in str(error.value) and str(source) in str(error.value)


def test_more_frames_than_there_are_is_an_error(folder):
    with pytest.raises(DataError, match="has 9 frames between start and end, 10 are wanted"):
        read_frames(folder, 10)
    with pytest.raises(DataError, match="has 1 frames"):
        read_frames(folder, start=8)
