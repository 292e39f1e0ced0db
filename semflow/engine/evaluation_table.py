"""The text table of an evaluation, with the protocol's every choice below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from semflow.engine.protocols import GROUP_NAMES, EvaluationProtocol
from semflow.engine.scores import Group, Metrics

MAIN = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "miou": "mIoU all",
    "miou_foreground": "mIoU fg",
    "scene_miou_foreground_classes": "fg mIoU scene",
    "accuracy": "accuracy",
}
DETAILS = {
    "scene_miou": "mIoU scene",
    "class_accuracy": "class acc.",
    "boundary_iou": "boundary IoU",
    "boundary_iou_foreground": "boundary fg",
    "j": "J",
    "f": "F",
    "j_and_f": "J&F",
    "flow_epe": "flow EPE",
}
LEGEND = (
    "ours (copying). mIoU all, mIoU fg: mean over images; fg mIoU scene: over the foreground classes, from one\n"
    "confusion matrix per scene and group. images: that count for colours / for labels."
)


def format_table(
    protocol: EvaluationProtocol,
    scenes: Mapping[str, Mapping[str, Group | None]],
    means: Mapping[str, Mapping[str, Metrics]],
    notes: Sequence[str],
) -> str:
    """The whole text: figures per scene and group, means over several scenes, notes, choices.

    Args:
        protocol: what was done.
        scenes: scene -> group name -> scores, None where the group is empty.
        means: group name -> {"ours", "copying"} -> metrics.
        notes: sentences on what was left out.
    """
    rows = [
        (name, GROUP_NAMES[key], f"{group.images}/{group.labelled_images}", group.ours.metrics, group.copying.metrics)
        for name, groups in scenes.items()
        for key, group in groups.items()
        if group is not None
    ]
    if len(scenes) > 1:
        present = [key for key in protocol.groups if any(groups.get(key) for groups in scenes.values())]
        rows += [("mean", GROUP_NAMES[key], "", means[key]["ours"], means[key]["copying"]) for key in present]
    blocks = [f"Evaluation, protocol {protocol.version}", _block(rows, MAIN), _block(rows, DETAILS), LEGEND]
    blocks += notes
    return "\n".join([block for block in blocks if block] + _choices(protocol))


def _block(rows: Sequence[tuple], columns: Mapping[str, str]) -> str:
    """Fixed-width lines; columns of which nothing is known are left out, and the block where none is left."""
    shown = {key: title for key, title in columns.items() if any(row[3].get(key) is not None for row in rows)}
    if not shown:
        return ""
    lines = [["scene", "views", "images", *shown.values()]]
    lines += [[*row[:3], *(_cell(key, row[3].get(key), row[4].get(key)) for key in shown)] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    return "\n".join([text[0], "-" * max(map(len, text)), *text[1:], ""])


def _cell(key: str, ours: float | None, copying: float | None) -> str:
    """For example "24.13 (19.08)"."""
    digits = 2 if key in ("psnr", "flow_epe") else 3
    known = ["-" if value is None else f"{value:.{digits}f}" for value in (ours, copying)]
    return known[0] if known == ["-", "-"] else f"{known[0]} ({known[1]})"


def _choices(protocol: EvaluationProtocol) -> list[str]:
    """A line per choice of the protocol."""
    choices = protocol.to_json()
    rules = choices.pop("rules")
    choices["groups"] = ", ".join(choices["groups"])
    lines = [f"  {key}: {value}" for key, value in choices.items()]
    return ["Choices of the protocol:", *lines, *(f"  {GROUP_NAMES[group]}: {rule}" for group, rule in rules.items())]
