"""The text tables of an evaluation, with the protocol's every choice below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

from semflow.engine.protocols import GROUP_NAMES, EvaluationProtocol
from semflow.engine.scene_result import OTHER_CAMERAS, OWN_CAMERA, Intervals, SceneResult
from semflow.engine.scores import ClassScore, Group, Metrics
from semflow.metrics.statistics import Interval

WIDTH = 125
MAIN = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "miou": "mIoU all",
    "miou_foreground": "mIoU fg",
    "scene_miou_foreground_classes": "fg mIoU scene",
    "accuracy": "accuracy",
}
DETAILS = {
    "lpips": "LPIPS",
    "flow_epe": "flow EPE",
    "scene_miou": "mIoU scene",
    "class_accuracy": "class acc.",
    "boundary_iou": "boundary IoU",
    "boundary_iou_foreground": "boundary fg",
}
OBJECTS = {"j": "J", "f": "F", "j_and_f": "J&F"}
INTERVALS = {"psnr": "PSNR", "ssim": "SSIM", "miou": "mIoU all", "miou_foreground": "mIoU fg"}
DISTANCES = {**INTERVALS, "accuracy": "accuracy"}
CLASSES = {"iou": "IoU", "accuracy": "accuracy"}
INTERVAL_OF = {"ours": "ours", "difference": "ours - copying"}
VIEW_NAMES = {OWN_CAMERA: "own camera", OTHER_CAMERAS: "others"}

LEGEND = (
    "ours (copying). mIoU all, mIoU fg: mean over images; fg mIoU scene: over the foreground classes, from one\n"
    "confusion matrix per scene and group. images: that count for colours / for labels."
)
INTERVALS_LEGEND = "95 % intervals of the mean over images, by bootstrap; the difference is taken image by image."
CLASSES_LEGEND = "Per class: {group}, from one confusion matrix; images: whose truth shows the class. ours (copying)."
DISTANCES_LEGEND = (
    "By distance in frames: labels to the nearest labelled frame, colours to the nearest frame whose colours were trained\n"
    "on (0 = such a frame). own camera: c == t, others: c != t; images of no group are counted, too. ours (copying)."
)

Row = tuple[tuple[str, ...], Mapping[str, "float | None"], Mapping[str, "float | None"]]  # first cells, ours, copying


def format_table(
    protocol: EvaluationProtocol,
    scenes: Sequence[SceneResult],
    means: Mapping[str, Mapping[str, Metrics]],
    intervals: Mapping[str, Intervals],
    notes: Sequence[str],
) -> str:
    """The whole text: figures per scene and group, means over several scenes, notes, intervals, classes, distances, rules.

    Lines keep within WIDTH columns where the names of scenes are short.

    Args:
        protocol: what was done.
        scenes: per scene.
        means: group name -> {"ours", "copying"} -> metrics.
        intervals: group name -> intervals of the means over scenes.
        notes: sentences on what was left out.
    """
    blocks = [f"Evaluation, protocol {protocol.version}", *_main_blocks(protocol, scenes, means), LEGEND, *notes]
    head = protocol.headline
    blocks += [_interval_block(head, scenes, intervals), _class_block(head, scenes), _distance_block(scenes)]
    return "\n".join([block for block in blocks if block] + _choices(protocol))


def _main_blocks(
    protocol: EvaluationProtocol, scenes: Sequence[SceneResult], means: Mapping[str, Mapping[str, Metrics]]
) -> list[str]:
    """Every metric per scene and group, and the means over several scenes."""
    rows = [
        ((result.scene.name, GROUP_NAMES[key], _counts(group)), group.ours.metrics, group.copying.metrics)
        for result in scenes
        for key, group in result.groups.items()
        if group is not None
    ]
    if len(scenes) > 1:
        present = [key for key in protocol.groups if any(result.groups[key] for result in scenes)]
        rows += [(("mean", GROUP_NAMES[key], ""), means[key]["ours"], means[key]["copying"]) for key in present]
    return [_pair_block(("scene", "views", "images"), rows, columns) for columns in (MAIN, DETAILS, OBJECTS)]


def _interval_block(headline: str, scenes: Sequence[SceneResult], intervals: Mapping[str, Intervals]) -> str:
    """Ours, and the difference to copying, of the group that counts."""
    found = {result.scene.name: result.intervals[headline] for result in scenes}
    if len(scenes) > 1:
        found["mean"] = intervals[headline]
    rows = [
        ((name, title), {key: _interval_cell(key, interval) for key, interval in whose[who].items()})
        for name, whose in found.items()
        for who, title in INTERVAL_OF.items()
        if any(interval is not None for interval in whose[who].values())
    ]
    table = _block(("scene", GROUP_NAMES[headline]), rows, INTERVALS)
    return table and f"\n{INTERVALS_LEGEND}\n{table}"


def _class_block(headline: str, scenes: Sequence[SceneResult]) -> str:
    """IoU and accuracy of every class that truth or a prediction shows in the group that counts."""
    rows = []
    for result in scenes:
        group = result.groups[headline]
        for name, ours in (group.ours.classes if group else {}).items():
            copying = group.copying.classes.get(name, ClassScore(None, None, 0))
            if ours.iou is not None or copying.iou is not None:
                rows.append(((result.scene.name, name, str(ours.images)), vars(ours), vars(copying)))
    table = _pair_block(("scene", "class", "images"), rows, CLASSES)
    return table and f"{CLASSES_LEGEND.format(group=GROUP_NAMES[headline])}\n{table}"


def _distance_block(scenes: Sequence[SceneResult]) -> str:
    """Metrics of images by distance, of the scenes where there is any distance."""
    rows = [
        ((result.scene.name, VIEW_NAMES[views], str(distance), _counts(group)), group.ours.metrics, group.copying.metrics)
        for result in scenes
        if any(max(bins, default=0) > 0 for bins in result.distances.values())
        for views, bins in result.distances.items()
        for distance, group in bins.items()
    ]
    table = _pair_block(("scene", "views", "distance", "images"), rows, DISTANCES)
    return table and f"{DISTANCES_LEGEND}\n{table}"


def _counts(group: Group) -> str:
    return f"{group.images}/{group.labelled_images}"


def _pair_block(heads: Sequence[str], rows: Sequence[Row], columns: Mapping[str, str]) -> str:
    """A block of cells "ours (copying)"; columns where the model has no figure are left out."""
    known = {key: title for key, title in columns.items() if any(ours.get(key) is not None for _, ours, _ in rows)}
    cells = [(first, {key: _cell(key, ours.get(key), copying.get(key)) for key in known}) for first, ours, copying in rows]
    return _block(heads, cells, known)


def _block(
    heads: Sequence[str], rows: Sequence[tuple[tuple[str, ...], Mapping[str, str]]], columns: Mapping[str, str]
) -> str:
    """Fixed-width lines of (first cells, column -> cell); columns of "-" are left out, and the block where none is left."""
    shown = {key: title for key, title in columns.items() if any(cells[key] != "-" for _, cells in rows)}
    if not shown:
        return ""
    lines = [[*heads, *shown.values()], *([*first, *(cells[key] for key in shown)] for first, cells in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    return "\n".join([text[0], "-" * max(map(len, text)), *text[1:], ""])


def _digits(key: str) -> int:
    return 2 if key in ("psnr", "flow_epe") else 3


def _cell(key: str, ours: float | None, copying: float | None) -> str:
    """For example "24.13 (19.08)"."""
    known = ["-" if value is None else f"{value:.{_digits(key)}f}" for value in (ours, copying)]
    return known[0] if known == ["-", "-"] else f"{known[0]} ({known[1]})"


def _interval_cell(key: str, interval: Interval | None) -> str:
    """For example "24.13 [23.90, 24.40]"; the mean alone where it has no interval."""
    if interval is None:
        return "-"
    mean, low, high = ("" if v is None else f"{v:.{_digits(key)}f}" for v in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]" if low else mean


def _choices(protocol: EvaluationProtocol) -> list[str]:
    """A line per choice of the protocol."""
    choices = protocol.to_json()
    rules = choices.pop("rules")
    choices["groups"] = ", ".join(choices["groups"])
    lines = [f"  {key}: {value}" for key, value in choices.items()]
    lines += [f"  {GROUP_NAMES[group]}: {rule}" for group, rule in rules.items()]
    return ["Choices of the protocol:", *(fill(line, WIDTH, subsequent_indent="    ") for line in lines)]
