"""From a configuration and scenes to a model and the scenes as it sees them."""

from __future__ import annotations

import torch

from semflow.config.schema import Config
from semflow.engine.scenes import KeptScene
from semflow.models.scene_context import SceneContext, SceneShape, scene_box
from semflow.models.semantic_flow import SemanticFlow


def build_model(config: Config, scenes: list[KeptScene], device: torch.device) -> SemanticFlow:
    """The model of a configuration, with weights that depend on `train.seed` alone."""
    shapes = [SceneShape(len(scene.rgb), scene_box(scene.cameras, scene.space).cpu()) for scene in scenes]
    model = SemanticFlow(config.model, config.encoder, len(scenes[0].label_map), shapes, config.train.seed)
    return model.set_up(config.train.bf16, config.train.recompute).to(device)


def encode_scenes(model: SemanticFlow, scenes: list[KeptScene]) -> list[SceneContext]:
    """Run the frozen encoders once per scene; what they learn of the scenes, they learn from all of them first."""
    model.fit_encoders([scene.rgb for scene in scenes])
    return [model.encode(i, s.rgb, s.cameras, s.space, s.cues) for i, s in enumerate(scenes)]


def build_trained_model(config: Config, scenes: list[KeptScene], device: torch.device) -> SemanticFlow:
    """The same for training: its networks are compiled if `train.compile` says so."""
    model = build_model(config, scenes, device)
    return model.compile_networks() if config.train.compile else model
