"""What an edit acts on: classes, instances, pixels, copies, or a whole field, named by short texts.

balloon       a class by its name          6             a class by its id
balloon#1     an instance by its name      #3            an instance by its number in the list of all
120,64@5      what is seen at pixel x = 120, y = 64 of training frame 5
twin          what an earlier edit duplicated under this name
moving        the whole dynamic field      static        the whole static field
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from semflow.rendering.edits import LayerEdit
from semflow.rendering.model_renderer import ModelRenderer
from semflow.tasks.editing.regions import Instance, Regions
from semflow.utils.errors import ConfigError

PIXEL = re.compile(r"(\d+(?:\.\d+)?),(\d+(?:\.\d+)?)@(\d+)")


@dataclass(frozen=True)
class Selection:
    """Parts of a scene.

    Attributes:
        moving: (G,) bool groups of the dynamic field. still: (G',) bool groups of the static field.
        copies: names of duplicates, which are selected as wholes.
    """

    moving: Tensor
    still: Tensor
    copies: frozenset[str] = frozenset()

    def of(self, layer: LayerEdit) -> Tensor:
        """(G,) bool groups of a layer."""
        groups = self.moving if layer.moves else self.still
        return torch.ones_like(groups) if layer.name in self.copies else groups

    def __or__(self, other: Selection) -> Selection:
        return Selection(self.moving | other.moving, self.still | other.still, self.copies | other.copies)


@dataclass(frozen=True)
class Scenery:
    """What targets are looked up in: a scene, its regions, and what renders it without edits."""

    renderer: ModelRenderer
    scene: str
    regions: Regions

    def select(self, targets: Sequence[str], copies: Sequence[str], where: str) -> Selection:
        """All that the targets name.

        Args:
            copies: names of the duplicates there are. where: what an error begins with.

        Raises:
            ConfigError: a target names nothing that is to be seen.
        """
        found = [self.target(target, copies, where) for target in targets]
        for more in found[1:]:
            found[0] = found[0] | more
        return found[0]

    def target(self, target: str, copies: Sequence[str], where: str) -> Selection:
        """What one target names; arguments as in `select`."""
        names, pixel = self.regions.label_map.names, PIXEL.fullmatch(target)
        if pixel:
            return self.instance(self.at_pixel(float(pixel[1]), float(pixel[2]), int(pixel[3]), f"{where} = {target!r}"))
        if target in copies:
            return Selection(self.none(True), self.none(False), frozenset({target}))
        if target in names or target.isdecimal() and int(target) < len(names):
            return self.of_class(names.index(target) if target in names else int(target), f"{where} = {target!r}")
        if target in ("moving", "static"):
            whole = target == "moving"
            return Selection(self.none(True) ^ whole, self.none(False) ^ (not whole))
        instances = self.regions.instances
        named = [item for number, item in enumerate(instances) if target in (item.name, f"#{number + 1}")]
        if named:
            return self.instance(named[0])
        raise ConfigError(f"{where} = {target!r}: is nothing in scene {self.scene}; name one of {self.contents(copies)}, "
                          "or a pixel X,Y@FRAME")

    def contents(self, copies: Sequence[str]) -> str:
        """The names that can be selected."""
        seen = dict.fromkeys(self.regions.label_map.names[item.label] for item in self.regions.instances)
        return ", ".join([*seen, *(item.name for item in self.regions.instances), *copies, "moving", "static"])

    def none(self, moves: bool) -> Tensor:
        """(G,) bool, no group of a field."""
        field = self.regions.moving if moves else self.regions.still
        return torch.zeros(field.groups, dtype=torch.bool, device=field.box.device)

    def of_class(self, label: int, where: str) -> Selection:
        """All instances of a class."""
        found = [self.instance(item) for item in self.regions.instances if item.label == label]
        if not found:
            raise ConfigError(f"{where}: this class is not to be seen in scene {self.scene}; it holds {self.contents(())}")
        for more in found[1:]:
            found[0] = found[0] | more
        return found[0]

    def instance(self, instance: Instance) -> Selection:
        """One instance."""
        moving, still = self.none(True), self.none(False)
        (moving if instance.moves else still)[instance.group : instance.group + 2] = True
        return Selection(moving, still)

    def at_pixel(self, x: float, y: float, frame: int, where: str) -> Instance:
        """The instance that a training frame shows at a pixel.

        Raises:
            ConfigError: the pixel is outside the frame, or shows nothing that is an instance.
        """
        cameras = self.renderer.scenes[self.scene].cameras
        if not (x < cameras.width and y < cameras.height and frame < len(cameras)):
            size = f"{cameras.width}x{cameras.height}"
            raise ConfigError(f"{where}: must lie in a frame; the scene has {len(cameras)} frames of {size}")
        shown = self.shown(frame)[int(y), int(x)]
        if shown < 0:
            raise ConfigError(f"{where}: shows nothing that is an instance; choose a pixel inside a thing")
        return self.regions.instances[int(shown)]

    def shown(self, frame: int) -> Tensor:
        """(H, W) int64 number of the instance that each pixel of a training frame shows, -1 where there is none."""
        context = self.renderer.scenes[self.scene]
        view = self.renderer.render(self.scene, context.cameras, frame, float(frame), frozenset({"semantic", "depth"}))
        world = context.cameras.lift(context.cameras.pixels(), view.depth, frame)
        points, logits = context.space.from_world(world).flatten(0, 1), view.logits.flatten(0, 1)
        groups = {True: self.regions.groups(points, logits, frame), False: self.regions.groups(points, logits, None)}
        label, found = logits.argmax(-1), torch.full_like(groups[True], -1)
        for number, item in enumerate(self.regions.instances):
            own = (groups[item.moves] == item.group) | (groups[item.moves] == item.group + 1)
            found[(label == item.label) & own] = number
        return found.view(view.depth.shape)
