"""Starting from the weights of a file: going on with a run, and adaptation of a trained model to new scenes."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from semflow.encoders.positional import PlaneEncoding
from semflow.engine.checkpoint import load_checkpoint
from semflow.engine.run_folder import RunFolder
from semflow.engine.scenes import KeptScene, check_same_classes
from semflow.models.semantic_flow import SemanticFlow
from semflow.utils.errors import CheckpointError

PER_SCENE = ("encoding.space.", "encoding.time.", "encoding.boxes", "encoding.codes")


def own_names(model: SemanticFlow) -> set[str]:
    """Names of the weights that a new scene starts with: its planes and codes, and the densities that are read from planes.

    A trained density head finds solid matter or nothing anywhere in planes that it has never seen, and no gradient leads out
    of either. New planes start as a fog, like those of any other run.
    """
    heads = [f"{name}.density." for name in ("static", "dynamic") if isinstance(getattr(model, name).encoding, PlaneEncoding)]
    return {name for name in model.state_dict() if name.startswith(tuple(heads)) or any(part in name for part in PER_SCENE)}


def start_from(model: SemanticFlow, source: Path, scene: KeptScene) -> int:
    """Copy the shared weights of another run into a model; those of `own_names` stay as they are.

    Args:
        source: a checkpoint, or a run folder, whose newest one is taken. scene: one of the model's, for its classes.

    Returns:
        Number of tensors taken over.

    Raises:
        CheckpointError: there is none, the file is broken, or its networks have other sizes or classes.
    """
    checkpoint = RunFolder(source).require_checkpoint() if source.is_dir() else source
    loaded, kept = load_checkpoint(checkpoint), own_names(model)
    check_same_classes(checkpoint, scene, loaded["scenes"][0])
    state = loaded["model"]
    shared = {name: value for name, value in model.state_dict().items() if name not in kept}
    for name, value in shared.items():
        if name not in state or state[name].shape != value.shape:
            raise CheckpointError(f"{checkpoint}: {name} is missing or of another shape; init needs a run with the same "
                                  "model sizes, encoder and number of classes")
    model.load_state_dict({name: state[name] for name in shared}, strict=False)
    return len(shared)


def check_same_weights(path: Path, model: SemanticFlow, state: dict[str, Tensor]) -> None:
    """Raise CheckpointError unless a file of the same configuration holds the weights of this model and no others."""
    shapes, found = ({name: value.shape for name, value in weights.items()} for weights in (model.state_dict(), state))
    wrong = sorted(name for name in shapes.keys() | found.keys() if shapes.get(name) != found.get(name))
    if wrong:
        raise CheckpointError(f"{path}: {wrong[0]} is missing, unknown or of another shape: the networks are those of another "
                              "version of semflow; go on with that, or train again with --overwrite")
