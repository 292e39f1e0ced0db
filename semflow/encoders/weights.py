"""Reading pretrained weights without executing code from the file, with errors that name the key."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from semflow.utils.errors import CheckpointError


def read_state_dict(path: str | Path, remedy: str) -> dict[str, Tensor]:
    """Tensors of a `.pth` file by name; a file that wraps them in {"state_dict": ...} is unwrapped.

    Args:
        path: the file.
        remedy: what the user can do about it, put at the end of each error.

    Raises:
        CheckpointError: the file is missing, cannot be read with `weights_only=True`, or holds no tensors.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such weight file; {remedy}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: not a file of plain tensors ({_first_line(error)}); {remedy}") from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: cannot be read as torch weights ({_first_line(error)}); {remedy}") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    entries = state.items() if isinstance(state, dict) else ()
    tensors = {name: value for name, value in entries if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path}: holds no state dict; {remedy}")
    return tensors


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def load_weights(module: nn.Module, state: dict[str, Tensor], path: str | Path, original: Callable[[str], str] = str):
    """Copy `state` into `module`; every key must be there, with its shape, and none may be left over.

    `num_batches_tracked` may be missing: it is not used in eval mode, and old files lack it.

    Args:
        module: receives the weights.
        state: tensors by the module's own names.
        path: the file, for errors.
        original: the module's name -> the name in the file, for errors.

    Raises:
        CheckpointError: names the first missing, unknown, misshaped or non-finite key.
    """
    expected = {name: value for name, value in module.state_dict().items() if not name.endswith("num_batches_tracked")}
    given = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    for name, value in expected.items():
        if name not in given:
            raise CheckpointError(f"{path}: key {original(name)} is missing; give a file of this very network")
        if given[name].shape != value.shape:
            raise CheckpointError(f"{path}: key {original(name)} has shape {tuple(given[name].shape)}, expected "
                                  f"{tuple(value.shape)}; give a file of this very network")
        if not torch.isfinite(given[name]).all():
            raise CheckpointError(f"{path}: key {original(name)} holds values that are not finite; download it again")
    unknown = sorted(given.keys() - expected.keys())
    if unknown:
        raise CheckpointError(f"{path}: key {original(unknown[0])} is not part of this network ({len(unknown)} such "
                              f"keys); give a file of this very network")
    module.load_state_dict(given, strict=False)
