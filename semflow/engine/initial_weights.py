"""Starting from the weights of another run: adaptation of a trained model to new scenes."""

from __future__ import annotations

from pathlib import Path

from semflow.engine.checkpoint import load_checkpoint
from semflow.models.semantic_flow import SemanticFlow
from semflow.utils.errors import CheckpointError

PER_SCENE = ("encoding.space.", "encoding.time.", "encoding.boxes", "encoding.codes")


def start_from(model: SemanticFlow, checkpoint: str | Path) -> int:
    """Copy the shared weights of a checkpoint into a model; planes and codes belong to their scenes and stay as they are.

    Returns:
        Number of tensors taken over.

    Raises:
        CheckpointError: the file is broken, or its networks have other sizes or classes.
    """
    state, own = load_checkpoint(checkpoint)["model"], model.state_dict()
    shared = {name: value for name, value in own.items() if not any(part in name for part in PER_SCENE)}
    for name, value in shared.items():
        if name not in state or state[name].shape != value.shape:
            raise CheckpointError(f"{checkpoint}: {name} is missing or of another shape; init needs a run with the same "
                                  "model sizes, encoder and number of classes")
    model.load_state_dict({name: state[name] for name in shared}, strict=False)
    return len(shared)
