"""A trained run, ready to render: read from a checkpoint alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from semflow.config.parser import config_from_dict, with_settings
from semflow.config.schema import Config
from semflow.engine.building import build_model, encode_scenes
from semflow.engine.checkpoint import load_checkpoint
from semflow.engine.run_folder import RunFolder
from semflow.engine.scenes import KeptScene, scene_from_state
from semflow.engine.stages import dynamic_is_untrained, total_steps
from semflow.geometry.cameras import Cameras
from semflow.models.semantic_flow import SemanticFlow
from semflow.records import LabelMap
from semflow.rendering.model_renderer import ModelRenderer
from semflow.utils.device import resolve_device, set_up_torch
from semflow.utils.errors import CheckpointError
from semflow.utils.memory import is_out_of_memory, shortage_as_error


@dataclass(frozen=True)
class LoadedRun:
    """A trained model with its scenes.

    Attributes:
        config: the configuration of the run. model: its networks. renderer: renders any view.
        scenes: name -> what the checkpoint keeps of the scene. step: optimiser steps taken.
        checkpoint: the file. settings: what of `render` was set otherwise, as KEY=VALUE.
    """

    config: Config
    model: SemanticFlow
    renderer: ModelRenderer
    scenes: dict[str, KeptScene]
    step: int
    checkpoint: Path
    settings: tuple[str, ...] = ()

    @property
    def identity(self) -> dict[str, Any]:
        """What is shown: name of the checkpoint file, its step, the steps of the whole run, settings; can be JSON."""
        return {"checkpoint": self.checkpoint.name, "step": self.step, "steps": total_steps(self.config),
                "settings": list(self.settings)}

    @property
    def scene_names(self) -> tuple[str, ...]:
        return tuple(self.scenes)

    def cameras(self, scene: str) -> Cameras:
        """Training cameras of a scene."""
        return self.scenes[scene].cameras

    def label_map(self, scene: str) -> LabelMap:
        """Classes of a scene."""
        return self.scenes[scene].label_map


def load_run(run: Path, device: str = "auto", checkpoint: Path | None = None, settings: Sequence[str] = ()) -> LoadedRun:
    """Load the newest checkpoint of a run folder, or the named one; `settings` replace keys of `render` (KEY=VALUE).

    The dynamic field is left out as long as no stage has trained it.

    Raises:
        CheckpointError: there is none, it is broken, or its weights do not fit its configuration.
        ConfigError: the device does not exist, or a setting is wrong.
        SemflowError: there is too little memory.
    """
    target = resolve_device(device)
    set_up_torch()
    path = Path(checkpoint) if checkpoint else RunFolder(run).require_checkpoint()
    with shortage_as_error(f"{path}: there is not enough memory on {target} to load it; close other programs, or use another "
                           "--device"):
        return read_run(path, target, settings)


def read_run(path: Path, target: torch.device, settings: Sequence[str]) -> LoadedRun:
    """The run of a checkpoint on a device; errors as of `load_run`, but for a lack of memory, which torch reports."""
    state = load_checkpoint(path, target)
    try:
        config = config_from_dict(state["config"])
        scenes = [scene_from_state(item) for item in state["scenes"]]
        model = build_model(config, scenes, target)
        model.load_state_dict(state["model"])
    except (KeyError, TypeError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: not a checkpoint of this version of semflow ({reason}); train again") from error
    config = with_settings(config, settings, "render")
    contexts = dict(zip((scene.name for scene in scenes), encode_scenes(model, scenes)))
    step = state["step"]
    renderer = ModelRenderer(model, contexts, config.render, static_only=dynamic_is_untrained(config, step))
    return LoadedRun(config, model, renderer, {scene.name: scene for scene in scenes}, step, path, tuple(settings))
