"""Before and after: two records of a benchmark, compared in products."""

from __future__ import annotations

from typing import Any

from semflow.engine.benchmark_report import TITLES, digits, seconds, table

SAME_CONDITIONS = ("cpu", "cores", "threads", "device", "torch", "python")
BUSY = 1.3  # a product that takes this many times longer: other work was going on
REPEATS = "repeats"  # more repeats measure the same


def compare(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Products of two records and their ratios, figure by figure, below warnings where the conditions differ.

    Quality curves are not compared: their points lie at other times.
    """
    before = {part["name"]: part for part in old["parts"]}
    lines = condition_warnings(old["conditions"], new["conditions"])
    for part in new["parts"]:
        if part["name"] not in before:
            lines.append(f"{part['name']}: not in the older record")
            continue
        lines += part_warnings(before[part["name"]], part)
        first, second = products(before[part["name"]]), products(part)
        rows = [(part["name"], "products before", "after", "after / before")]
        rows += [(name, digits(first[name]), digits(second[name]), ratio(first[name], second[name]))
                 for name in second if name in first]
        lines += ["", table(rows) or f"{part['name']}: the records share no figure"]
    return "\n".join(lines).lstrip("\n")


def ratio(before: float, after: float) -> str:
    """After by before; a dash where nothing was spent before."""
    return f"{after / before:.3f}" if before else "-"


def products(part: dict[str, Any]) -> dict[str, float]:
    """Every time of a part in products, by its name."""
    found = {TITLES[case]: m["products"] for case, m in part["cases"].items()}
    for step, times in part["stages"].items():
        found |= {f"{step} step: {name}": stage["products"] for name, stage in times["stages"].items()}
    for axis, points in part["sweeps"].items():
        found |= {f"dynamic step, {axis} = {point['value']}": point["products"] for point in points}
    return found


def condition_warnings(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """A line per condition that differs."""
    return [f"warning: {key} differs: {old.get(key)} before, {new.get(key)} after"
            for key in SAME_CONDITIONS if old.get(key) != new.get(key)]


def part_warnings(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Lines on settings that differ, and on a machine that was busier in one of the runs."""
    name, first, second = new["name"], flat(old["settings"]), flat(new["settings"])
    lines = [f"warning: {name}: {key} differs: {first.get(key)} before, {second.get(key)} after"
             for key in sorted(first.keys() | second.keys()) if key != REPEATS and first.get(key) != second.get(key)]
    beside = [[m["product_seconds"] for m in part["cases"].values()] for part in (old, new)]
    if all(beside):
        means = [sum(times) / len(times) for times in beside]
        if max(means) > BUSY * min(means):
            lines.append(f"warning: {name}: a product took {seconds(means[0])} before, {seconds(means[1])} after "
                         f"(load {old['load']}, {new['load']}): the machine was not equally busy")
    return lines


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries with dotted keys."""
    found = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return found
