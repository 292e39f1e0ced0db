"""What edits tell the renderer: which things of a scene are shown, where, when, in what colours and how opaque.

The samples of a field are parted into groups, numbered 0 to G-1 over both fields of a scene. Edits are tables over
these groups. Things that are shown elsewhere or at another time are layers, each with tables of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from semflow.records import FieldSamples


@dataclass(frozen=True)
class Thing:
    """The groups of one thing of the dynamic field.

    Attributes:
        seen: what cameras see of it. unseen: what lies behind it. rest: what is of its class and belongs to nothing.
    """

    seen: int
    unseen: int
    rest: int


@dataclass(frozen=True)
class Body:
    """Things of a class that are treated alike.

    Attributes:
        own: (G,) bool, their groups. rest: the group of what is of their class and belongs to nothing.
    """

    own: Tensor
    rest: int


class Membership(Protocol):
    """Tells which group samples belong to.

    Attributes:
        things: those of the dynamic field whose haze is told apart from them in every view.
    """

    things: Sequence[Thing]

    def groups(self, points: Tensor, logits: Tensor, frame: int | None) -> Tensor:
        """(N,) int64 groups of samples at field-space points (N, 3) with logits (N, K).

        Args:
            frame: the integer frame of dynamic samples; None for samples of the static field.
        """


@dataclass(frozen=True)
class Treatment:
    """How the samples of each group are shown.

    Attributes:
        opacity: (G,) in [0, 1]; 0: removed. color: (G, 3, 3) matrices that colours are multiplied with.
    """

    opacity: Tensor
    color: Tensor

    @classmethod
    def none(cls, groups: int, device: torch.device | str = "cpu") -> Treatment:
        """Everything as it is."""
        return cls(torch.ones(groups, device=device), torch.eye(3, device=device).repeat(groups, 1, 1))

    @property
    def changes_nothing(self) -> bool:
        return bool((self.opacity == 1).all()) and not self.recolors

    @property
    def recolors(self) -> bool:
        return bool((self.color != torch.eye(3, device=self.color.device)).any())

    @property
    def hides_everything(self) -> bool:
        return not self.opacity.any()

    def bodies(self, things: Sequence[Thing]) -> list[Body]:
        """What is shown otherwise than what is of its class and belongs to nothing; things that are treated alike are one."""
        shown = [tuple(row) for row in torch.cat([self.opacity[:, None], self.color.flatten(1)], dim=1).tolist()]
        alike: dict[tuple, Body] = {}
        for thing in things:
            key = thing.rest, shown[thing.seen], shown[thing.unseen]
            if key[1:] != (shown[thing.rest],) * 2:
                none = torch.zeros_like(self.opacity, dtype=torch.bool)
                body = alike.setdefault(key, Body(none, thing.rest))
                body.own[[thing.seen, thing.unseen]] = True
        return list(alike.values())

    def faded(self, groups: Tensor, opacity: float) -> Treatment:
        """Copy with the opacity of the groups (G,) bool multiplied."""
        return replace(self, opacity=torch.where(groups, self.opacity * opacity, self.opacity))

    def recolored(self, groups: Tensor, matrix: Tensor) -> Treatment:
        """Copy with the colours of the groups (G,) bool multiplied with one more matrix (3, 3)."""
        return replace(self, color=torch.where(groups[:, None, None], matrix @ self.color, self.color))

    def colored(self, rgb: Tensor, group: Tensor) -> Tensor:
        """Colours (N, 3) in [0, 1] of samples of the groups (N,)."""
        return torch.einsum("nij,nj->ni", self.color[group], rgb).clamp(0.0, 1.0) if self.recolors else rgb

    def shown(self, samples: FieldSamples, group: Tensor) -> FieldSamples:
        """N samples of the groups (N,): removed ones are empty and hide nothing of the static field."""
        kept = (self.opacity[group] > 0).to(samples.density.dtype)
        blend = None if samples.blend is None else samples.blend * kept
        density = torch.relu(samples.density) * kept
        return FieldSamples(density, self.colored(samples.rgb, group), samples.logits, blend)


@dataclass(frozen=True)
class Clock:
    """Which time of a field is shown at a time of the view: steps `rate * time + shift`, the last one first.

    Each step ends inside the clip: before its beginning and behind its end a thing stands still.
    """

    steps: tuple[tuple[float, float], ...] = ()

    def at(self, time: float, frames: int) -> float:
        """The field's time in [0, frames-1] at a time of the view."""
        for rate, shift in reversed(self.steps):
            time = min(max(rate * time + shift, 0.0), frames - 1.0)
        return time

    def then(self, rate: float, shift: float) -> Clock:
        """What has been timed by this clock, timed once more."""
        return Clock((*self.steps, (rate, shift)))


@dataclass(frozen=True)
class LayerEdit:
    """Things of one field, shown together.

    Attributes:
        treatment: which groups of the field are shown, and how.
        placement: (T, 4, 4) at every frame of the field, where it is put in the world; None: where it is.
        clock: when. moves: it is of the dynamic field. name: how a duplicate is called.
    """

    treatment: Treatment
    placement: Tensor | None = None
    clock: Clock = Clock()
    moves: bool = True
    name: str = ""

    @property
    def is_whole_field(self) -> bool:
        """It is the dynamic field as it is."""
        return self.moves and self.placement is None and not self.clock.steps and self.treatment.changes_nothing

    def placed_at(self, time: float) -> Tensor | None:
        """(4, 4) placement at a time of the field, between frames by the linear way."""
        if self.placement is None:
            return None
        before, after = math.floor(time), math.ceil(time)
        return torch.lerp(self.placement[before], self.placement[after], time - before)


@dataclass(frozen=True)
class SceneEdits:
    """All edits of one scene.

    Attributes:
        membership: what the groups are. layers: what is shown of the dynamic field, and what of the static one is shown
            otherwise than there.
        still: how the static field is shown; only whether there is any opacity counts. None: as it is.
        backdrop: (renderer, scene) whose static field is shown instead; None: the scene's own.
    """

    membership: Membership
    layers: tuple[LayerEdit, ...]
    still: Treatment | None = None
    backdrop: tuple[Any, str] | None = None


@dataclass(frozen=True)
class StillEdit:
    """Edits of the samples of the static field."""

    treatment: Treatment
    membership: Membership

    def density(self, points: Tensor, density: Tensor, logits: Tensor) -> Tensor:
        """(N,) densities without what is removed."""
        group = self.membership.groups(points, logits, None)
        return torch.where(self.treatment.opacity[group] > 0, density, torch.zeros_like(density))

    def rgb(self, points: Tensor, rgb: Tensor, logits: Tensor) -> Tensor:
        """(N, 3) recoloured."""
        return self.treatment.colored(rgb, self.membership.groups(points, logits, None))


def faded_alpha(alpha: Tensor, opacity: float) -> Tensor:
    """Opacities (R, S) of samples that show the thing they make up as if it were seen with that opacity.

    A thing of opacity A along a ray gets the opacity `opacity * A`; which of its samples are seen stays the same. (With
    the density scaled instead, the opacity would depend on how thick the thing is.)
    """
    passed = (1.0 - alpha).cumprod(1)  # light left behind each sample of the thing itself
    left = 1.0 - opacity * (1.0 - passed)
    before = torch.cat([torch.ones_like(left[:, :1]), left[:, :-1]], dim=1)
    return 1.0 - left / before.clamp(min=1e-12)
