"""Regularisers of factorised planes; they are zero for other encodings."""

from __future__ import annotations

from torch import Tensor

from semflow.encoders.positional import PlaneEncoding
from semflow.losses.base import LossInputs, loss_term


def active_encodings(inputs: LossInputs) -> list[PlaneEncoding]:
    """Plane encodings of the fields that this stage trains."""
    model = inputs.model
    dynamic = inputs.outputs.dynamic is not None
    modules = (model.dynamic.encoding, model.flow.encoding) if dynamic else (model.static.encoding,)
    return [module for module in modules if isinstance(module, PlaneEncoding)]


@loss_term("plane_variation")
def plane_variation(inputs: LossInputs) -> Tensor:
    """Total variation in space."""
    terms = [encoding.variation(inputs.scene.index) for encoding in active_encodings(inputs)]
    return sum(terms, inputs.batch.rgb.new_zeros(()))


@loss_term("plane_time")
def plane_time(inputs: LossInputs) -> Tensor:
    """Second-order smoothness in time."""
    terms = [encoding.time_roughness(inputs.scene.index) for encoding in active_encodings(inputs)]
    return sum(terms, inputs.batch.rgb.new_zeros(()))
