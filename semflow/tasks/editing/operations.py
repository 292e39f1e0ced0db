"""The operations of edits: each turns what is shown so far into what is shown afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from semflow.rendering.edits import LayerEdit, Treatment
from semflow.tasks.editing.edit_file import Edit
from semflow.tasks.editing.regions import Regions
from semflow.tasks.editing.selection import Selection
from semflow.utils.errors import ConfigError

LUMINANCE = (0.2126, 0.7152, 0.0722)
MIDDLE_GREY = 0.5  # the brightness that takes on exactly the new colour


@dataclass(frozen=True)
class Shown:
    """What is shown of a scene.

    Attributes:
        layers: of the dynamic field, and what of the static field is shown otherwise than there.
        still: the static field. backdrop: what is shown instead of it, see `SceneEdits`.
    """

    layers: tuple[LayerEdit, ...]
    still: Treatment
    backdrop: Any = None

    @classmethod
    def unedited(cls, regions: Regions) -> Shown:
        """Both fields as they are."""
        device = regions.moving.box.device
        return cls((LayerEdit(Treatment.none(regions.moving.groups, device)),), Treatment.none(regions.still.groups, device))

    @property
    def copies(self) -> list[str]:
        """Names of the duplicates."""
        return [layer.name for layer in self.layers if layer.name]


@dataclass(frozen=True)
class Request:
    """What an operation is asked for: the regions of the scene, the values of the edit, what an error begins with."""

    regions: Regions
    values: Any
    where: str

    def never_seen(self, layer: LayerEdit) -> Tensor:
        """(G,) bool groups of a layer that nobody has seen, and that are not shown elsewhere."""
        return (self.regions.moving if layer.moves else self.regions.still).never_seen


def apply(shown: Shown, edit: Edit, selection: Selection, regions: Regions, where: str) -> Shown:
    """What is shown after an edit of what a selection names.

    Raises:
        ConfigError: the edit cannot be done; begins with `where`.
    """
    if shown.backdrop is not None and (selection.still.any() or edit.do == "keep"):
        raise ConfigError(f"{where}: the background has been swapped before, its things cannot be edited; "
                          "put this edit before that one")
    return ACTIONS[edit.do](shown, selection, Request(regions, edit.values, where))


def remove(shown: Shown, selection: Selection, request: Request) -> Shown:
    """Take the selected things away; what the static field holds behind them appears."""
    layers = [replace(layer, treatment=layer.treatment.faded(selection.of(layer), 0.0)) for layer in shown.layers]
    return tidy(replace(shown, layers=tuple(layers), still=shown.still.faded(selection.still, 0.0)))


def keep(shown: Shown, selection: Selection, request: Request) -> Shown:
    """Take everything else away."""
    layers = [replace(layer, treatment=layer.treatment.faded(~selection.of(layer), 0.0)) for layer in shown.layers]
    return tidy(replace(shown, layers=tuple(layers), still=shown.still.faded(~selection.still, 0.0)))


def recolour(shown: Shown, selection: Selection, request: Request) -> Shown:
    """Give the selected things a colour, with the light and shade of their own."""
    matrix = recolouring(shown.still.color, request)
    layers = [replace(layer, treatment=layer.treatment.recolored(selection.of(layer), matrix)) for layer in shown.layers]
    return replace(shown, layers=tuple(layers), still=shown.still.recolored(selection.still, matrix))


def recolouring(like: Tensor, request: Request) -> Tensor:
    """(3, 3) matrix that keeps brightness and replaces the colour."""
    colour, luminance = like.new_tensor(request.values["colour"]), like.new_tensor(LUMINANCE)
    strength = request.values["strength"]
    return (1.0 - strength) * torch.eye(3, device=like.device) + strength / MIDDLE_GREY * colour[:, None] * luminance


def opacity(shown: Shown, selection: Selection, request: Request) -> Shown:
    """Let the selected things be seen through. Those of the static field become a layer: it hides nothing behind them."""
    value = request.values["value"]
    if 0.0 < value < 1.0:
        shown = with_still_layer(shown, selection, request)
    layers = [replace(layer, treatment=layer.treatment.faded(selection.of(layer), value)) for layer in shown.layers]
    return tidy(replace(shown, layers=tuple(layers), still=shown.still.faded(selection.still, value)))


def move(shown: Shown, selection: Selection, request: Request) -> Shown:
    """Displace the selected things by a world vector."""
    return rearranged(shown, selection, request, lambda layer, chosen: placed(layer, shift_of(request, layer)))


def rotate(shown: Shown, selection: Selection, request: Request) -> Shown:
    """Turn the selected things about their own centre, about the world's axes x, then y, then z."""
    def turned(layer: LayerEdit, chosen: Tensor) -> LayerEdit:
        return about_centre(layer, chosen, request, rotation(request.values["degrees"]))

    return rearranged(shown, selection, request, turned)


def scale(shown: Shown, selection: Selection, request: Request) -> Shown:
    """Make the selected things larger or smaller about their own centre."""
    def scaled(layer: LayerEdit, chosen: Tensor) -> LayerEdit:
        return about_centre(layer, chosen, request, request.values["factor"] * torch.eye(3))

    return rearranged(shown, selection, request, scaled)


def duplicate(shown: Shown, selection: Selection, request: Request) -> Shown:
    """Show the selected things once more, displaced, under a name that later edits can select."""
    name = request.values["as"]
    if name in shown.copies or name in (*request.regions.label_map.names, "moving", "static"):
        raise ConfigError(f"{request.where}.as = {name!r}: this name is taken; choose another")
    source = with_still_layer(shown, selection, request)
    copies = [restricted(layer, selection.of(layer) & ~request.never_seen(layer)) for layer in source.layers]
    copies = [replace(placed(copy, shift_of(request, copy)), name=name) for copy in copies]
    return tidy(replace(shown, layers=(*shown.layers, *copies)))


def delay(shown: Shown, selection: Selection, request: Request) -> Shown:
    """Let the selected things do everything some frames later; until then they stand where they begin."""
    return timed(shown, selection, request, 1.0, -request.values["frames"])


def speed(shown: Shown, selection: Selection, request: Request) -> Shown:
    """Let the selected things move faster, slower or backwards about a frame that stays as it is.

    Without such a frame that is the first one; what goes backwards begins with the last frame.
    """
    factor, start = request.values["factor"], request.values["from"]
    shift = request.regions.frames - 1.0 if start is None and factor < 0 else (start or 0.0) * (1.0 - factor)
    return timed(shown, selection, request, factor, shift)


def freeze(shown: Shown, selection: Selection, request: Request) -> Shown:
    """Hold the selected things at a frame."""
    return timed(shown, selection, request, 0.0, request.values["frame"])


def timed(shown: Shown, selection: Selection, request: Request, rate: float, shift: float) -> Shown:
    """The selected things shown at the time `rate * time + shift` of theirs."""
    if selection.still.any():
        raise ConfigError(f"{request.where}.what: names something of the static field, which does not change in time; "
                          "leave it out")
    return rearranged(shown, selection, request, lambda layer, chosen: replace(layer, clock=layer.clock.then(rate, shift)))


ACTIONS = {"remove": remove, "keep": keep, "recolour": recolour, "opacity": opacity, "move": move, "rotate": rotate,
           "scale": scale, "duplicate": duplicate, "delay": delay, "speed": speed, "freeze": freeze}


def rearranged(shown: Shown, selection: Selection, request: Request, change: Callable[[LayerEdit, Tensor], LayerEdit]
               ) -> Shown:
    """Every layer without what is selected, and what is selected of it changed, as a layer of its own."""
    source, layers = with_still_layer(shown, selection, request), []
    for layer in source.layers:
        chosen = selection.of(layer) & (layer.treatment.opacity > 0)
        layers += [restricted(layer, ~chosen)]
        chosen = chosen & ~request.never_seen(layer)
        if chosen.any():
            layers += [change(restricted(layer, chosen), chosen)]
    return tidy(replace(source, layers=tuple(layers)))


def with_still_layer(shown: Shown, selection: Selection, request: Request) -> Shown:
    """The selected things of the static field taken out of it into a layer, which is shown like the others."""
    chosen = selection.still & (shown.still.opacity > 0)
    if not chosen.any():
        return shown
    layer = LayerEdit(shown.still.faded(~chosen | request.regions.still.never_seen, 0.0), moves=False)
    return replace(shown, layers=(*shown.layers, layer), still=shown.still.faded(chosen, 0.0))


def restricted(layer: LayerEdit, groups: Tensor) -> LayerEdit:
    """A layer with the groups (G,) bool alone."""
    return layer if groups.all() else replace(layer, treatment=layer.treatment.faded(~groups, 0.0))


def tidy(shown: Shown) -> Shown:
    """Without layers that show nothing."""
    return replace(shown, layers=tuple(layer for layer in shown.layers if not layer.treatment.hides_everything))


def shift_of(request: Request, layer: LayerEdit) -> Tensor:
    """(T, 4, 4) displacement by the vector of an edit."""
    matrices = torch.eye(4).repeat(request.regions.frames, 1, 1)
    matrices[:, :3, 3] = torch.tensor(request.values["by"])
    return matrices.to(layer.treatment.opacity.device)


def placed(layer: LayerEdit, matrices: Tensor) -> LayerEdit:
    """A layer put elsewhere by (T, 4, 4) world matrices, from where it is."""
    return replace(layer, placement=matrices if layer.placement is None else matrices @ layer.placement)


def about_centre(layer: LayerEdit, chosen: Tensor, request: Request, linear: Tensor) -> LayerEdit:
    """A layer under a linear map (3, 3) about the centre, at each of its frames, of its groups (G,) bool."""
    regions = request.regions
    own = [item for item in regions.instances if item.moves == layer.moves and bool(chosen[item.group])]
    if not own:
        raise ConfigError(f"{request.where}.what: names nothing that has a centre; name classes or instances")
    weights = torch.tensor([float(item.cells) for item in own])
    centres = (torch.stack([item.centres.cpu() for item in own]) * weights[:, None, None]).sum(0) / weights.sum()
    centres = centres.to(chosen.device)
    if layer.placement is not None:
        centres = (layer.placement[:, :3, :3] @ centres[..., None])[..., 0] + layer.placement[:, :3, 3]
    linear = linear.to(centres)
    matrices = torch.eye(4, device=centres.device).repeat(len(centres), 1, 1)
    matrices[:, :3, :3] = linear
    matrices[:, :3, 3] = centres - centres @ linear.T
    return placed(layer, matrices)


def rotation(degrees: Sequence[float]) -> Tensor:
    """(3, 3) right-handed turn about x, then y, then z."""
    total = torch.eye(3, dtype=torch.float64)
    for axis, angle in enumerate(degrees):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.eye(3, dtype=torch.float64)
        turn[i, i] = turn[j, j] = math.cos(math.radians(angle))
        turn[j, i] = math.sin(math.radians(angle))
        turn[i, j] = -turn[j, i]
        total = turn @ total
    return total.float()
