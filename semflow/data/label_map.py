"""Classes of a data root (labelmap.txt, foreground_object.txt) and the decoding of label colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from semflow.data.images import Size, read_image, require_aspect, require_file, resize_nearest
from semflow.data.layout import ScenePaths
from semflow.data.problems import Attempt, BrokenFile, strictly
from semflow.records import LabelMap
from semflow.utils.errors import ConfigError, DataError

LABELMAP, FOREGROUND = "labelmap.txt", "foreground_object.txt"
SYNTAX = "write one header line, then a line name:r,g,b:: for each class"
UNLABELLED = LabelMap(("background",), torch.zeros(1, 3, dtype=torch.uint8), ())


def _read_lines(path: Path, remedy: str) -> list[str]:
    require_file(path, remedy)
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise BrokenFile(path, "is not a readable UTF-8 text file", remedy) from error


def _parse_class(path: Path, number: int, line: str) -> tuple[str, tuple[int, ...]]:
    """Name and colour of line `number` (1-based) of labelmap.txt."""
    name, _, rest = line.partition(":")
    channels = [part.strip() for part in rest.split(":")[0].split(",")]
    valid = len(channels) == 3 and all(part.isascii() and part.isdigit() and int(part) <= 255 for part in channels)
    if not name.strip() or not valid:
        raise BrokenFile(path, f"line {number}, {line!r}, is not a class", SYNTAX + " with r, g, b in 0..255")
    return name.strip(), tuple(int(part) for part in channels)


def _refuse_header(path: Path, line: str) -> None:
    try:
        _parse_class(path, 1, line)
    except BrokenFile:
        return
    raise BrokenFile(path, f"begins with the class {line!r} where the header line belongs", SYNTAX)


def read_classes(path: Path, attempt: Attempt = strictly) -> LabelMap | None:
    """Classes of labelmap.txt, without foreground; None where `attempt` kept a problem of the whole file.

    Raises:
        BrokenFile: missing, empty, malformed, or a name or colour twice.
    """
    lines = attempt(_read_lines, path, SYNTAX)
    if lines is None:
        return None
    attempt(_refuse_header, path, lines[0])
    classes: dict[str, tuple[int, ...]] = {}
    for number, line in enumerate(lines[1:], start=2):
        parsed = attempt(_parse_class, path, number, line) if line else None
        if parsed is not None and attempt(_require_new, path, number, *parsed, classes):
            classes[parsed[0]] = parsed[1]
    if not classes:
        return attempt(_refuse_empty, path)
    return LabelMap(tuple(classes), torch.tensor(list(classes.values()), dtype=torch.uint8), ())


def _require_new(path: Path, number: int, name: str, color: tuple[int, ...], classes: dict) -> bool:
    if name in classes:
        raise BrokenFile(path, f"line {number} names the class {name} a second time", "give every class one line")
    if color in classes.values():
        raise BrokenFile(
            path, f"line {number} gives {name} the colour {color} of another class", "give every class its own colour"
        )
    return True


def _refuse_empty(path: Path) -> None:
    raise BrokenFile(path, "names no class", SYNTAX)


def read_foreground(path: Path, classes: LabelMap, attempt: Attempt = strictly) -> tuple[int, ...]:
    """Ids of the classes in foreground_object.txt, sorted; lines that begin with # are skipped.

    Raises:
        BrokenFile: missing, empty, or a name that labelmap.txt does not hold.
    """
    lines = attempt(
        _read_lines, path, "write the names of the classes that may move, one a line (a line # none where nothing may)"
    )
    names = [line for line in lines or [] if line and not line.startswith("#")]
    return tuple(sorted({i for i in (attempt(_class_id, path, name, classes) for name in names) if i is not None}))


def _class_id(path: Path, name: str, classes: LabelMap) -> int:
    if name not in classes.names:
        raise BrokenFile(
            path, f"names the class {name}, which is not in {LABELMAP}", f"use one of: {', '.join(classes.names)}"
        )
    return classes.names.index(name)


def static_ids(entries: tuple[str, ...], scene: str, classes: LabelMap) -> set[int]:
    """Ids of the classes that `entries` ("Scene:class") declare static in `scene`.

    Raises:
        ConfigError: an entry of another form, or a class that the label map does not hold.
    """
    ids = set()
    for entry in entries:
        owner, separator, name = (part.strip() for part in entry.partition(":"))
        if not owner or not separator or not name:
            raise ConfigError(f"static_classes = {entry!r}: write Scene:class, like Balloon1:person")
        if owner == scene and name not in classes.names:
            raise ConfigError(
                f"static_classes = {entry!r}: {LABELMAP} has no class {name}; use one of {', '.join(classes.names)}"
            )
        if owner == scene:
            ids.add(classes.names.index(name))
    return ids


def read_label_map(
    paths: ScenePaths, static_classes: tuple[str, ...], needed: bool, attempt: Attempt = strictly
) -> LabelMap | None:
    """Label map of a scene; None where `attempt` kept a problem of the file.

    Args:
        paths: the scene.
        static_classes: "Scene:class" entries; those of this scene leave `foreground`.
        needed: whether the scene has labels; without any, a missing labelmap.txt means one class, background.
        attempt: see `semflow.data.problems`.

    Raises:
        BrokenFile: see `read_classes` and `read_foreground`.
        ConfigError: see `static_ids`.
    """
    path = paths.root_file(LABELMAP)
    if not needed and not path.is_file():
        static_ids(static_classes, paths.name, UNLABELLED)
        return UNLABELLED
    classes = read_classes(path, attempt)
    if classes is None:
        return None
    listed = read_foreground(paths.root_file(FOREGROUND), classes, attempt)
    static = static_ids(static_classes, paths.name, classes)
    return replace(classes, foreground=tuple(i for i in listed if i not in static), listed_foreground=listed)


def pack_colors(rgb: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 -> (...) int32, one number per colour."""
    wide = rgb.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def read_labels(path: Path, label_map: LabelMap, size: Size | None = None) -> np.ndarray:
    """Class ids (H, W) int64 of an image of label colours, resized to `size` (nearest).

    Raises:
        BrokenFile: unreadable, a colour that the label map does not hold, or another aspect ratio than `size`.
    """
    image = read_image(path)
    if size is not None:
        require_aspect(path, image.shape[:2], size)
    known = pack_colors(label_map.colors.cpu().numpy())
    order = np.argsort(known)
    packed = pack_colors(image)
    place = np.searchsorted(known[order], packed).clip(max=len(known) - 1)
    unknown = known[order][place] != packed
    if unknown.any():
        y, x = np.argwhere(unknown)[0]
        color = ", ".join(str(c) for c in image[y, x])
        raise BrokenFile(
            path,
            f"colour ({color}) at pixel x {x}, y {y} is not in {LABELMAP} ({int(unknown.sum())} such pixels)",
            f"add the colour to {LABELMAP} or repaint the pixels; save labels without smoothing or lossy compression",
        )
    ids = order[place].astype(np.int64)
    return ids if size is None else resize_nearest(ids, size)


def labelmap_text(classes: Mapping[str, tuple[int, int, int]]) -> str:
    """Contents of labelmap.txt for classes and their colours, in the order of their ids."""
    rows = [f"{name}:{','.join(map(str, color))}::" for name, color in classes.items()]
    return "\n".join(["# label:color_rgb:parts:actions", *rows]) + "\n"


def class_files(root: Path, classes: Mapping[str, tuple[int, int, int]], moving: Sequence[str]) -> dict[Path, str]:
    """Path -> text of labelmap.txt and foreground_object.txt of a root, for these classes and those of them that may move."""
    return {root / LABELMAP: labelmap_text(classes), root / FOREGROUND: "".join(f"{name}\n" for name in moving)}


def check_class_files(texts: Mapping[Path, str], whose: str) -> None:
    """Raise DataError where one of the files exists with other contents; `whose`: in words, those that are wanted."""
    for path, text in texts.items():
        if path.exists() and path.read_text(encoding="utf-8", errors="replace") != text:
            raise DataError(f"{path}: holds other classes than {whose}; choose another root folder")
