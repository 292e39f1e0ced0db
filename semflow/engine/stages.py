"""A stage of training is data: what it trains, on which rays, how long. One loop runs them all."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from semflow.config.schema import Config, StageConfig
from semflow.data.sampler import RaySampler
from semflow.encoders.positional import PlaneEncoding
from semflow.engine.scenes import TrainingScene
from semflow.losses import LossSet
from semflow.models.semantic_flow import SemanticFlow
from semflow.rendering.renderer import Renderer, Sampling
from semflow.utils.errors import ConfigError


# name -> the parameter groups that it trains, and whether it sees rays of the static region alone
STAGES = {"static": (("static",), True), "flow": (("flow",), False), "dynamic": (("flow", "dynamic"), False)}


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: shown in the progress bar and in TensorBoard. config: steps, rays, learning rates, losses.
        trains: parameter groups of the model. static_rays: rays of the static region only.
        first_step: optimiser steps taken before it.
    """

    name: str
    config: StageConfig
    trains: tuple[str, ...]
    static_rays: bool
    first_step: int

    @property
    def shows_colours(self) -> bool:
        """What it renders is trained in it."""
        return self.trains != ("flow",)

    @property
    def last_step(self) -> int:
        """Optimiser steps taken when it ends."""
        return self.first_step + self.config.steps


def stages_of(config: Config) -> list[Stage]:
    """The stages of a configuration, in order; a stage without steps is left out."""
    found, first = [], 0
    for name, rule in STAGES.items():
        found.append(Stage(name, getattr(config, stage_field(name)), *rule, first))
        first = found[-1].last_step
    return [stage for stage in found if stage.config.steps]


def stage_field(name: str) -> str:
    """Where the configuration keeps a stage."""
    return f"{name}_stage"


def stage_fields(config: Config) -> dict[str, StageConfig]:
    """The stages of a configuration by the names of their fields, in order."""
    return {stage_field(name): getattr(config, stage_field(name)) for name in STAGES}


def total_steps(config: Config) -> int:
    """Optimiser steps of a whole run."""
    return sum(stage.steps for stage in stage_fields(config).values())


def dynamic_is_untrained(config: Config, step: int) -> bool:
    """After that many steps, the dynamic field is as it was before the first of them, and shows nothing of the scenes."""
    starts = [stage.first_step for stage in stages_of(config) if "dynamic" in stage.trains]
    return step <= starts[0] if starts else not config.init


def require_steps(config: Config) -> None:
    """Refuse a configuration that trains nothing with a ConfigError."""
    if not total_steps(config):
        keys = ", ".join(f"{field}.steps" for field in stage_fields(config))
        raise ConfigError(f"{keys} = 0: there is nothing to train; give one of them a number of steps")


def build_optimizer(stage: Stage, model: SemanticFlow) -> torch.optim.Adam:
    """Adam over the stage's parameter groups, the planes with their own learning rate."""
    trained = model.parameter_groups()
    parameters = [parameter for name in stage.trains for parameter in trained[name]]
    planes = {id(p) for module in model.modules() if isinstance(module, PlaneEncoding) for p in module.parameters()}
    groups = [
        {"params": [p for p in parameters if id(p) not in planes], "lr": stage.config.lr, "base": stage.config.lr},
        {"params": [p for p in parameters if id(p) in planes], "lr": stage.config.plane_lr, "base": stage.config.plane_lr},
    ]
    fused = next(model.parameters()).device.type in ("cpu", "cuda")  # one pass over the planes instead of ten
    return torch.optim.Adam([group for group in groups if group["params"]], betas=(0.9, 0.999), fused=fused)


def set_learning_rate(optimizer: torch.optim.Adam, stage: Stage, step: int) -> None:
    """Linear warm-up, then exponential decay: tenfold in `decay_steps`; both counted within the stage."""
    done = step - stage.first_step
    factor = 0.1 ** (done / stage.config.decay_steps)
    if done < stage.config.warmup_steps:
        factor *= (done + 1) / stage.config.warmup_steps
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * factor


def build_losses(stage: Stage) -> LossSet:
    """The stage's loss terms."""
    return LossSet(stage.config.losses, stage.config.moving_only)


def build_renderer(stage: Stage, losses: LossSet, model: SemanticFlow, density_prior: bool) -> Renderer:
    """The renderer that computes what the stage's losses need."""
    config = stage.config
    sampling = Sampling(config.samples, config.surface_samples, config.surface_spread, config.density_noise,
                        config.moving_only, density_prior)
    return Renderer(model, losses.branches, sampling, static_frozen="static" not in stage.trains,
                    dynamic_frozen="dynamic" not in stage.trains)


def build_samplers(stage: Stage, scenes: list[TrainingScene]) -> list[RaySampler]:
    """A sampler per scene; the rays of a step are split over the scenes."""
    rays = max(1, stage.config.rays // len(scenes))
    labelled = stage.config.labelled_rays
    return [RaySampler(scene.data, scene.supervision, rays, stage.static_rays, labelled) for scene in scenes]
