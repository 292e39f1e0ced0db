"""Pictures by name: parsing, what they need, what they show."""

import cv2
import numpy as np
import pytest
import torch

from semflow.records import LabelMap, View
from semflow.utils.errors import ConfigError
from semflow.viz.pictures import PICTURES, Palette, parse_pictures, renderer_needs

LABELS = LabelMap(("a", "b"), torch.tensor([[0, 0, 0], [200, 100, 0]], dtype=torch.uint8), (1,))
PALETTE = Palette(LABELS, near=1.0, far=2.0, flow_scale=2.0)


def view() -> View:
    return View(
        rgb=torch.full((2, 3, 3), 0.2), logits=torch.tensor([0.0, 5.0]).expand(2, 3, 2), depth=torch.ones(2, 3),
        entropy=torch.zeros(2, 3), flow=torch.tensor([2.0, 0.0]).expand(2, 3, 2), dynamic_opacity=torch.ones(2, 3),
        static_rgb=torch.full((2, 3, 3), 0.4), dynamic_rgb=torch.full((2, 3, 3), 0.6),
    )


def test_names_keep_their_order_once():
    assert parse_pictures(" depth, rgb ,depth") == ("depth", "rgb")


@pytest.mark.parametrize("text", ["rgb,semantics", "", ",", "RGB"])
def test_typos_give_one_line_with_the_choices(text):
    with pytest.raises(ConfigError) as caught:
        parse_pictures(text)
    message = str(caught.value)
    assert "\n" not in message and all(name in message for name in PICTURES) and repr(text) in message


def test_needs_are_a_union_of_what_the_renderer_knows():
    assert renderer_needs(("overlay", "semantic")) == {"rgb", "semantic"}
    known = {"rgb", "semantic", "depth", "flow", "entropy", "dynamic", "static"}
    assert renderer_needs(tuple(PICTURES)) == known


def test_every_picture_shows_its_quantity():
    turbo_last = cv2.applyColorMap(np.array([[255]], dtype=np.uint8), cv2.COLORMAP_TURBO)[0, 0, ::-1].tolist()
    inferno_first = cv2.applyColorMap(np.array([[0]], dtype=np.uint8), cv2.COLORMAP_INFERNO)[0, 0, ::-1].tolist()
    expected = {
        "rgb": [51, 51, 51], "semantic": [200, 100, 0], "overlay": [126, 76, 26], "depth": turbo_last,
        "flow": [255, 0, 0], "entropy": inferno_first, "dynamic": [153] * 3, "static": [102] * 3,
    }
    assert set(expected) == set(PICTURES)
    for name, color in expected.items():
        image = PALETTE.draw(name, view())
        assert image.shape == (2, 3, 3) and image.dtype == np.uint8
        assert np.abs(image.astype(int) - color).max() <= 1, name


@pytest.mark.parametrize("name", PICTURES)
def test_a_quantity_that_was_not_rendered_is_named(name):
    with pytest.raises(ConfigError, match=f"what = {name}: .*leave it out"):
        PALETTE.draw(name, View())
