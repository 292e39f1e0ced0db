"""Pictures of another program are judged like a model: what is saved and read again scores as it did."""

from dataclasses import replace

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from evaluation_fakes import FRAMES, HEIGHT, WIDTH, PerfectRenderer, make_scene, true_labels

from semflow.engine.evaluator import evaluate
from semflow.engine.given_views import GivenViews
from semflow.engine.protocols import PROTOCOLS
from semflow.utils.errors import DataError


def judged(renderer, out, scene, **options):
    return evaluate(renderer, [scene], out, PROTOCOLS["corrected"], progress=False, **options)


class Darker(PerfectRenderer):
    """Somewhat too dark everywhere, so that no image is exact."""

    def render(self, *arguments):
        view = super().render(*arguments)
        return replace(view, rgb=view.rgb - 0.05)


@pytest.fixture
def saved(tmp_path):
    """Views that lie two frames behind their time, as an evaluation saved them: their folder, and how they scored."""
    result = judged(Darker(shift=2), tmp_path, make_scene(), save=True)
    return result.folder, result.headline


def test_saved_views_score_as_they_did(saved, tmp_path):
    folder, before = saved
    after = judged(GivenViews(folder, {"toy": make_scene()}), tmp_path / "again", make_scene()).headline
    labels = ("miou", "miou_foreground", "accuracy", "boundary_iou", "scene_miou", "j_and_f")
    assert before["miou"] < 0.95 and [after[name] for name in labels] == [before[name] for name in labels]
    assert after["psnr"] == pytest.approx(before["psnr"], abs=0.05)  # 8 bits
    assert after["flow_epe"] is None


def test_each_camera_and_time_has_its_own_picture(saved):
    folder, _ = saved
    views, scene = GivenViews(folder, {"toy": make_scene()}), make_scene()
    for time, camera in ((0, 1), (1, 0), (1, 3)):
        view = views.render("toy", scene.cameras, camera, float(time), frozenset({"rgb", "semantic"}))
        assert torch.equal(view.labels, true_labels(min(time + 2, FRAMES - 1), camera))


@pytest.mark.parametrize("kind", ["rgb", "labels"])
def test_one_kind_of_pictures_is_enough(saved, tmp_path, kind):
    folder, before = saved
    for path in folder.glob(f"toy/*_{kind}.png"):
        path.unlink()
    after = judged(GivenViews(folder, {"toy": make_scene()}), tmp_path / "again", make_scene())
    if kind == "labels":
        assert after.headline["miou"] is None and after.headline["psnr"] == pytest.approx(before["psnr"], abs=0.05)
    else:
        assert after.headline["miou"] == before["miou"]
        assert after.headline["psnr"] == pytest.approx(after.means["held_out"]["copying"]["psnr"])


def picture(folder, kind):
    return folder / "toy" / f"t001_c002_{kind}.png"


@pytest.mark.parametrize("kind, broken, reason", [
    ("rgb", None, "no such picture"),
    ("labels", None, "no such picture"),
    ("rgb", b"no picture", "not a readable image"),
    ("rgb", np.zeros((HEIGHT, WIDTH), np.uint8), f"must be {WIDTH}x{HEIGHT}, 8-bit RGB"),
    ("labels", np.zeros((HEIGHT, WIDTH, 3), np.uint8), "class ids, not colours"),
    ("labels", np.zeros((HEIGHT + 1, WIDTH), np.uint8), f"must be {WIDTH}x{HEIGHT}"),
    ("labels", np.zeros((HEIGHT, WIDTH), np.uint16), "8-bit class ids"),
    ("labels", np.full((HEIGHT, WIDTH), 4, np.uint8), "class id 4, but labelmap.txt names 4 classes"),
])
def test_a_bad_picture_is_named(saved, kind, broken, reason):
    folder, _ = saved
    path = picture(folder, kind)
    path.unlink()
    if isinstance(broken, bytes):
        path.write_bytes(broken)
    elif broken is not None:
        iio.imwrite(path, broken)
    scene = make_scene()
    with pytest.raises(DataError, match=rf"t001_c002_{kind}.png: .*{reason}"):
        GivenViews(folder, {"toy": scene}).render("toy", scene.cameras, 2, 1.0, frozenset({"rgb", "semantic"}))


def test_a_scene_without_pictures_is_named(saved, tmp_path):
    folder, _ = saved
    (folder / "empty").mkdir()
    for name in ("empty", "missing"):
        with pytest.raises(DataError, match=f"{name}: no pictures; they are named t000_c000_rgb.png"):
            GivenViews(folder, {"toy": make_scene(), name: make_scene(name)})
