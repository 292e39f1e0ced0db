"""A trained scene with edits: from a list of edits to a renderer that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from semflow.engine.loading import LoadedRun, load_run
from semflow.rendering.edits import SceneEdits
from semflow.tasks.editing.edit_file import Edit
from semflow.tasks.editing.operations import Shown, apply
from semflow.tasks.editing.regions import find_regions
from semflow.tasks.editing.selection import Scenery
from semflow.utils.errors import ConfigError


def scenery_of(loaded: LoadedRun, scene: str) -> Scenery:
    """What the targets of edits are looked up in: the instances of a scene of a run."""
    return Scenery(loaded.renderer, scene, find_regions(loaded.renderer, scene, loaded.label_map(scene)))


def edited_run(loaded: LoadedRun, scenery: Scenery, edits: Sequence[Edit], device: str = "auto") -> LoadedRun:
    """A run whose renderer shows a scene with edits, done in their order; other scenes stay as they are.

    Args:
        loaded: the run. scenery: of the scene. edits: see `edit_file`. device: for another run that is read.

    Raises:
        ConfigError: an edit names something that is not there, or cannot be done; begins with `edits[i]`.
    """
    shown = Shown.unedited(scenery.regions)
    for number, edit in enumerate(edits):
        where = f"edits[{number}]"
        if edit.do == "background":
            shown = replace(shown, backdrop=backdrop(loaded, edit, where, device))
            continue
        selection = scenery.select(edit.what, shown.copies, f"{where}.what")
        shown = apply(shown, edit, selection, scenery.regions, where)
    still = None if shown.still.changes_nothing else shown.still
    scene_edits = SceneEdits(scenery.regions, shown.layers, still, shown.backdrop)
    return replace(loaded, renderer=loaded.renderer.with_edits({scenery.scene: scene_edits}))


def backdrop(loaded: LoadedRun, edit: Edit, where: str, device: str):
    """(renderer, scene) of the scene whose static field an edit names.

    Raises:
        ConfigError: there is no such scene, or its classes differ. CheckpointError: there is no such run.
    """
    run, scene = edit.values["run"], edit.values["scene"]
    other = loaded if run is None else load_run(Path(run), device)
    if scene not in other.scene_names:
        held = ", ".join(other.scene_names)
        raise ConfigError(f"{where}.scene = {scene!r}: the run holds {held}; to name another run, set run")
    names = loaded.label_map(loaded.scene_names[0]).names
    if other.label_map(scene).names != names:
        raise ConfigError(
            f"{where}.run = {run!r}: its classes differ from those of the edited run; use one with the same labelmap.txt")
    return other.renderer, scene
