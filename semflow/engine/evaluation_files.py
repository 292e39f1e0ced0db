"""The pictures of an evaluation: PNGs of every view, and one overview per scene."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from semflow.engine.scene_truth import Pair
from semflow.records import LabelMap, View
from semflow.utils.errors import DataError
from semflow.viz.colors import color_labels, color_rgb
from semflow.viz.panels import side_by_side
from semflow.viz.video import write_png

VIEW_NAME = re.compile(r"t\d{3,}_c\d{3,}_(rgb|labels)\.png")  # see `view_name`
OVERVIEW_ROWS = 4
MAX_CLASSES = 256  # ids that fit into an 8-bit picture


@dataclass(frozen=True)
class OverviewRow:
    """One image of the overview: truth (H, W, 3), (H, W) or None, and the rendered view."""

    pair: Pair
    rgb: Tensor
    labels: Tensor | None
    view: View


def view_name(time: int, camera: int, kind: str) -> str:
    """Name of the picture of a view; `kind` is rgb or labels."""
    return f"t{time:03d}_c{camera:03d}_{kind}.png"


def save_view(folder: Path, pair: Pair, view: View) -> list[str]:
    """Write `t000_c000_rgb.png` (8-bit RGB) and, where there are labels, `t000_c000_labels.png` (8-bit ids).

    Returns:
        Names of the files.

    Raises:
        DataError: more classes than fit into 8 bits.
    """
    colors, labels = (view_name(pair.time, pair.camera, kind) for kind in ("rgb", "labels"))
    write_png(folder / colors, color_rgb(view.rgb))
    if view.logits is None:
        return [colors]
    if view.logits.shape[-1] > MAX_CLASSES:
        raise DataError(
            f"labelmap.txt: {view.logits.shape[-1]} classes do not fit into 8-bit label pictures (at most "
            f"{MAX_CLASSES}); evaluate without --save"
        )
    write_png(folder / labels, view.labels.cpu().numpy().astype(np.uint8))
    return [colors, labels]


def drop_views(folder: Path, kept: Collection[str]) -> None:
    """Remove what `save_view` has written to the folder before, but for the names in `kept`."""
    for path in folder.glob("t*_c*_*.png"):
        if VIEW_NAME.fullmatch(path.name) and path.name not in kept:
            path.unlink(missing_ok=True)


def choose_overview(pairs: list[Pair]) -> set[Pair]:
    """About four scored pairs, spread over cameras and times; views of other cameras first."""
    scored = [pair for pair in pairs if pair.scored]
    candidates = [pair for pair in scored if pair.camera != pair.time] or scored
    # the middle of each quarter: at its ends the camera is a neighbour of the time's own
    places = [(row + 0.5) / OVERVIEW_ROWS for row in range(OVERVIEW_ROWS)] if candidates else []
    return {candidates[int(place * len(candidates))] for place in places}


def save_overview(path: Path, rows: list[OverviewRow], label_map: LabelMap) -> None:
    """Write a sheet with a row per image: true colours | rendered colours | true labels | rendered labels."""
    tiles = []
    for row in rows:
        where = f"t={row.pair.time} c={row.pair.camera}"
        tiles += [(f"{where} truth", color_rgb(row.rgb)), (f"{where} rendered", color_rgb(row.view.rgb))]
        for name, labels in ((f"{where} truth", row.labels), (f"{where} rendered", _labels(row.view))):
            none = torch.full(row.rgb.shape[:2], -1)
            tiles.append((name, color_labels(none if labels is None else labels, label_map)))
    write_png(path, side_by_side(tiles, columns=4))


def _labels(view: View) -> Tensor | None:
    return None if view.logits is None else view.labels
