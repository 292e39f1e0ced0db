"""Reading and resizing images, with values worked out by hand."""

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from semflow.data.images import read_image, read_mask, read_rgb, require_aspect, resize_area, resize_nearest
from semflow.data.problems import BrokenFile


def test_nearest_takes_the_pixel_under_the_centre():
    row = np.arange(9)[None]
    assert resize_nearest(row, (1, 3)).tolist() == [[1, 4, 7]]
    assert resize_nearest(np.arange(3)[None], (1, 9)).tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 2]]
    assert resize_nearest(np.arange(4)[None], (1, 2)).tolist() == [[1, 3]]
    assert resize_nearest(np.arange(5)[None], (1, 2)).tolist() == [[1, 3]]


def test_nearest_keeps_both_axes():
    image = np.arange(6 * 9).reshape(6, 9)
    assert resize_nearest(image, (2, 3)).tolist() == [[10, 13, 16], [37, 40, 43]]


def test_area_reduction_is_the_mean_of_what_a_pixel_covers():
    image = np.random.default_rng(0).random((6, 9, 3)).astype(np.float32)
    means = image.reshape(2, 3, 3, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(resize_area(image, (2, 3)), means, atol=1e-6)


def test_rgb_is_not_bgr_and_lies_in_unit_range(tmp_path):
    iio.imwrite(tmp_path / "a.png", np.broadcast_to(np.uint8([255, 51, 0]), (4, 5, 3)))
    rgb = read_rgb(tmp_path / "a.png")
    assert rgb.dtype == np.float32 and rgb.shape == (4, 5, 3)
    np.testing.assert_allclose(rgb[2, 3], [1.0, 0.2, 0.0], atol=1e-6)


def test_palette_and_alpha_are_resolved(tmp_path):
    palette = Image.fromarray(np.uint8([[0, 1], [1, 0]]), mode="P")
    palette.putpalette([9, 8, 7, 200, 0, 1] + [0] * 762)
    palette.save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png").tolist() == [[[9, 8, 7], [200, 0, 1]], [[200, 0, 1], [9, 8, 7]]]
    iio.imwrite(tmp_path / "a.png", np.uint8([[[1, 2, 3, 255], [0, 0, 0, 255]]]))
    assert read_image(tmp_path / "a.png").tolist() == [[[1, 2, 3], [0, 0, 0]]]
    assert read_mask(tmp_path / "a.png").tolist() == [[True, False]]  # an opaque pixel is not a moving one


def test_mask_is_any_non_zero_value(tmp_path):
    iio.imwrite(tmp_path / "m.png", np.uint8([[0, 1], [128, 255]]))
    assert read_mask(tmp_path / "m.png").tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_images_are_refused(tmp_path, suffix, share):
    path = tmp_path / f"a{suffix}"
    iio.imwrite(path, np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(BrokenFile, match="cut short"):
        read_image(path)


def test_deep_images_are_refused(tmp_path):
    iio.imwrite(tmp_path / "a.png", np.full((4, 4), 300, dtype=np.uint16))
    with pytest.raises(BrokenFile, match="8 bits"):
        read_image(tmp_path / "a.png")


def test_aspect_allows_rounding_only():
    require_aspect("a", (135, 240), (270, 480))
    require_aspect("a", (68, 121), (135, 240))
    require_aspect("a", (540, 960), (135, 240))
    with pytest.raises(BrokenFile, match="240x128, another aspect ratio than the frames .480x270."):
        require_aspect("a", (128, 240), (270, 480))
    with pytest.raises(BrokenFile, match="aspect"):
        require_aspect("a", (480, 270), (270, 480))
