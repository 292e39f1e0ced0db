"""Checkpoints: one safetensors file that holds any nested state, and from which no code is ever run.

Tensors are stored under the dotted path of their place; the nesting and the plain values are JSON in
the file's metadata. In that JSON a plain value stands for itself and a one-key object for the rest:
{"tensor": name}, {"list": [...]}, {"tuple": [...]}, {"dict": [[key, value], ...]} (keys keep their type).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from semflow.utils.errors import CheckpointError
from semflow.utils.files import TEMPORARY, atomic_path

FORMAT = "semflow-checkpoint"
VERSION = "1"
_NAME = re.compile(r"step-(\d+)\.safetensors")


def save_checkpoint(path: str | Path, state: dict) -> None:
    """Write `state` atomically: nested dicts, lists and tuples of tensors, str, int, float, bool and None.

    Dict keys may be str, int, float, bool or None. Tensors that share their whole memory, like tied weights,
    are stored once and share it again when loaded; other views become tensors of their own.

    Raises:
        CheckpointError: for a value of another type, naming its place.
    """
    encoder = _Encoder()
    structure = json.dumps(encoder.encode(state, ""))
    metadata = {"format": FORMAT, "version": VERSION, "structure": structure}
    with atomic_path(path) as temporary:
        try:
            save_file(encoder.tensors, temporary, metadata=metadata)
        except SafetensorError as error:
            raise CheckpointError(f"{path}: cannot be written ({error}); is the disk full?") from None


def load_checkpoint(path: str | Path, device: torch.device | str = "cpu") -> dict:
    """The state written by `save_checkpoint`, with every tensor on `device`.

    Generator states are uint8 tensors that torch wants on the CPU: `generator.set_state(state.cpu())`.

    Raises:
        CheckpointError: if the file is missing, damaged, of another kind or of another version.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; check the path")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            structure = _read_structure(path, file.metadata() or {})
            # a copy: the tensors of an open file are views of the file itself
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: truncated or not a checkpoint ({error}); use an older checkpoint") from None
    try:
        return _decode(structure, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its parts do not fit together ({error!r}); use an older checkpoint") from None


def checkpoint_path(folder: str | Path, step: int) -> Path:
    """The file of `step` in `folder`."""
    return Path(folder) / f"step-{step:08d}.safetensors"


def newest_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint of the highest step in `folder`, or None."""
    found = all_checkpoints(folder)
    return found[-1][1] if found else None


def all_checkpoints(folder: str | Path) -> list[tuple[int, Path]]:
    """Step and path of every checkpoint in `folder`, by step."""
    named = [(_NAME.fullmatch(path.name), path) for path in Path(folder).glob("step-*.safetensors")]
    return sorted((int(match[1]), path) for match, path in named if match)


def prune_checkpoints(folder: str | Path, keep: int) -> list[Path]:
    """Delete all but the `keep` newest checkpoints and leftovers of killed writers; returns what went."""
    if keep < 1:
        raise ValueError(f"keep = {keep}: at least one checkpoint must stay")
    old = [path for _, path in all_checkpoints(folder)[:-keep]]
    leftovers = list(Path(folder).glob(f".step-*{TEMPORARY}.safetensors"))
    for path in old + leftovers:
        path.unlink(missing_ok=True)
    return old + leftovers


class _Encoder:
    """Turns a nested state into JSON and a flat dictionary of tensors with unique names."""

    def __init__(self):
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[tuple, str] = {}  # memory of a tensor -> its name
        self._originals: list[Tensor] = []  # kept alive, so that no memory address is used twice
        self._storages: set[int] = set()

    def encode(self, value: Any, place: str) -> Any:
        """What stands for a value in the file's text; its tensors are kept under names that begin with its place in the state."""
        if value is None or type(value) in (str, int, float, bool):
            return value
        if isinstance(value, Tensor):
            return {"tensor": self._add(value.detach(), place)}
        if isinstance(value, (list, tuple)):
            items = [self.encode(item, f"{place}.{index}" if place else str(index))
                     for index, item in enumerate(value)]
            return {"tuple" if isinstance(value, tuple) else "list": items}
        if isinstance(value, dict):
            for key in value:
                if key is not None and type(key) not in (str, int, float, bool):
                    raise CheckpointError(f"{place}: a key of type {type(key).__name__} cannot be saved")
            return {"dict": [[key, self.encode(item, f"{place}.{key}" if place else str(key))]
                             for key, item in value.items()]}
        raise CheckpointError(f"{place}: a value of type {type(value).__name__} cannot be saved; "
                              "use tensors, numbers, texts, lists and dictionaries")

    def _add(self, tensor: Tensor, place: str) -> str:
        memory = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and memory in self._names:
            return self._names[memory]
        name = place or "state"
        while name in self.tensors:  # {"a.b": …} beside {"a": {"b": …}}, or 1 beside "1"
            name += "'"
        self._names[memory] = name
        self._originals.append(tensor)
        self.tensors[name] = self._standalone(tensor)
        return name

    def _standalone(self, tensor: Tensor) -> Tensor:
        """The tensor on the CPU, contiguous, alone in its memory (safetensors refuses shared memory)."""
        result = tensor.cpu().contiguous()
        storage = result.untyped_storage()
        if storage.nbytes() != result.numel() * result.element_size() or storage.data_ptr() in self._storages:
            result = result.clone()
        self._storages.add(result.untyped_storage().data_ptr())
        return result


def _read_structure(path: Path, metadata: dict[str, str]) -> Any:
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: a safetensors file, but not a semflow checkpoint; "
                              "give a file of a run's checkpoints folder")
    if metadata.get("version") != VERSION:
        raise CheckpointError(f"{path}: checkpoint version {metadata.get('version')}, this semflow reads version "
                              f"{VERSION}; use the semflow that wrote it")
    try:
        return json.loads(metadata["structure"])
    except (KeyError, ValueError):
        raise CheckpointError(f"{path}: its structure is damaged; use an older checkpoint") from None


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _decode(item, tensors) for key, item in content}
    return {"list": list, "tuple": tuple}[kind](_decode(item, tensors) for item in content)
