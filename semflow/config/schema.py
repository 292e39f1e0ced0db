"""The configuration: nested frozen dataclasses, the one source of defaults, `--help` and config files.

The defaults are the published values (docs/method.md, "Training"). A key is the dotted path of a field, e.g.
`dynamic_stage.losses.flow_forward`. Values are checked when a record is built.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from semflow.utils.errors import ConfigError


def option(default: Any, help: str, choices: tuple | None = None, low: float | None = None, high: float | None = None):
    """A field with its help text, allowed choices and range (inclusive)."""
    metadata = {"help": help, "choices": choices, "low": low, "high": high}
    return field(default=default, metadata=metadata)


class Checked:
    """Base that checks choices and ranges of `option` fields, of the items of a list, at construction."""

    def __post_init__(self):
        for item in fields(self):
            value, meta = getattr(self, item.name), item.metadata
            if meta.get("choices") and value not in meta["choices"]:
                raise ConfigError(f"{item.name} = {value!r}: choose one of {', '.join(map(str, meta['choices']))}")
            for one in value if isinstance(value, tuple) else (value,):
                if meta.get("low") is not None and one < meta["low"]:
                    raise ConfigError(f"{item.name} = {one}: must be at least {meta['low']}")
                if meta.get("high") is not None and one > meta["high"]:
                    raise ConfigError(f"{item.name} = {one}: must be at most {meta['high']}")


@dataclass(frozen=True)
class DataConfig(Checked):
    """Where the scenes lie and how they are read."""

    dir: str = option("data", "root with labelmap.txt and one folder per scene")
    labels_dir: str = option("", "second root for the label folders, if labels are kept apart (default: dir)")
    scenes: tuple[str, ...] = option(("balloon",), "scene folders, one or more: several are trained in one model")
    factor: int = option(2, "image factor K: read images_K (made in memory where missing)", low=1)
    static_classes: tuple[str, ...] = option((), "foreground classes that stand still, as Scene:class")
    labelled_frames: str = option("all", "frames whose labels are used: all, none, or a list like 0-2,9,11")
    color_frames: str = option("all", "frames whose colours train the dynamic field: all or a list like 0-8")
    space: str = option("ndc", "field space: ndc for forward-facing scenes, metric for others", choices=("ndc", "metric"))
    clip_to_bounds: bool = option(False, "in NDC, sample only between the near and far bounds of poses_bounds.npy")
    calibrate_depth: bool = option(False, "calibrate each frame's inverse depth against triangulated static points")
    label_kind: str = option(
        "full", "what training keeps of the labels: full, fraction (of the pixels), scribbles or box_centre, one per region",
        choices=("full", "fraction", "scribbles", "box_centre"))
    label_fraction: float = option(1.0, "share of a frame's labelled pixels that label_kind = fraction keeps", low=0, high=1)
    label_noise: float = option(0.0, "share of the labelled pixels that training gets with another class", low=0, high=1)
    flow_noise: float = option(0.0, "deviation of the noise that training gets on the flow, relative to its RMS", low=0, high=1)
    pose_noise: float = option(
        0.0, "deviation of the noise on the training cameras: radians, and centres relative to the nearest depth", low=0, high=1)
    occlusion: float = option(
        0.0, "width of a square that hides part of every training frame, relative to the image's", low=0, high=1)

    def __post_init__(self):
        super().__post_init__()
        if self.label_fraction < 1 and self.label_kind != "fraction":
            raise ConfigError(f"label_fraction = {self.label_fraction}: is only used with label_kind = fraction; set both")


@dataclass(frozen=True)
class EncoderConfig(Checked):
    """Image and video features."""

    kind: str = option(
        "slowonly", "dynamic-branch features: slowonly (R50), joint (small network trained with the field), pixels, none",
        choices=("slowonly", "joint", "pixels", "none"))
    static_kind: str = option("resnet18", "static-branch features: resnet18 or none", choices=("resnet18", "none"))
    video_weights: str = option("", "SlowOnly state dict (.pth); empty = random initialisation")
    image_weights: str = option("", "ResNet-18 state dict (.pth), `download` for torchvision's, empty = random")
    surface_cues: bool = option(
        False, "dynamic features also tell how far a point is from the surface that the depth shows, and whether it moves")
    pca: int = option(0, "reduce frozen maps to this many principal components, the same for all scenes (0 = keep all)", low=0)


@dataclass(frozen=True)
class ModelConfig(Checked):
    """Sizes of the networks."""

    encoding: str = option("frequency", "frequency (published) or planes (factorised grids)", choices=("frequency", "planes"))
    octaves: int = option(10, "octaves of the frequency encoding", low=1)
    plane_channels: int = option(16, "channels of a plane", low=1)
    plane_levels: tuple[int, ...] = option((64, 192), "resolutions of the fields' planes, one per level", low=1)
    flow_plane_levels: tuple[int, ...] = option((16, 48), "resolutions of the flow network's planes, one per level", low=1)
    density_scale: float = option(1.0, "factor on the raw densities of both fields", low=0)
    density_activation: str = option(
        "relu", "relu (published) or softplus, which keeps a gradient in empty space", choices=("relu", "softplus"))
    scene_code: int = option(
        0, "channels of a learned code per scene beside the frequencies, for several scenes that nothing else tells apart", low=0)
    code_hidden: int = option(4096, "hidden width of the clip-code MLP", low=1)
    code_width: int = option(256, "width of the clip code (0 = no clip code)", low=0)
    static_width: int = option(256, "width of the static field", low=1)
    static_blocks: int = option(5, "residual blocks of the static field", low=1)
    static_view_dependent: bool = option(True, "static colour depends on the view direction")
    dynamic_width: int = option(128, "width of the dynamic field", low=1)
    dynamic_code_blocks: int = option(2, "clip-code blocks of the dynamic field", low=0)
    dynamic_blocks: int = option(3, "residual blocks of the dynamic field after the clip-code blocks", low=1)
    flow_width: int = option(128, "width of the flow network", low=1)
    flow_encoding: str = option(
        "frequency", "encoding of the flow network: frequency or planes", choices=("frequency", "planes"))
    flow_octaves: int = option(10, "octaves of the flow network's frequency encoding", low=1)
    flow_substeps: int = option(2, "Euler sub-steps K per frame step", low=1)
    flow_length: int = option(3, "positions in a flow track: 1, 3 or 5", choices=(1, 3, 5))
    aggregator: str = option("attention", "flow features: attention, mean, point or none", choices=("attention", "mean", "point", "none"))
    attention_width: int = option(64, "token width of the flow attention", low=1)
    attention_heads: int = option(4, "heads of the flow attention", low=1)
    attention_head_width: int = option(4, "width of a head of the flow attention", low=1)
    feature_gradient: bool = option(True, "gradients of the features reach the flow through the places where they are read")
    displacement: bool = option(True, "tokens carry the encoded displacement from the current point")
    ray_attention: bool = option(False, "second attention along the ray")

    def __post_init__(self):
        super().__post_init__()
        for name in ("plane_levels", "flow_plane_levels"):
            if not getattr(self, name):
                raise ConfigError(f"{name} = []: name the resolution of a level or several")


@dataclass(frozen=True)
class LossConfig(Checked):
    """Weights of the loss terms; 0 = not computed."""

    rgb_full: float = option(0.0, "colour of the blended rendering", low=0)
    rgb_static: float = option(0.0, "colour of the static rendering on static rays", low=0)
    rgb_dynamic: float = option(0.0, "colour of the dynamic rendering", low=0)
    rgb_warped: float = option(0.0, "colour of the renderings warped from t-1 and t+1, each", low=0)
    semantic_full: float = option(0.0, "cross-entropy of the blended logits", low=0)
    semantic_static: float = option(0.0, "cross-entropy of the static logits on static rays", low=0)
    semantic_dynamic: float = option(0.0, "cross-entropy of the dynamic logits", low=0)
    semantic_warped: float = option(0.0, "cross-entropy of the warped logits (consistency), each", low=0)
    semantic_track: float = option(0.0, "classes of moving rays agree along the flow, without labels", low=0)
    flow_forward: float = option(0.0, "induced optical flow to t+1 against the given flow, L1", low=0)
    flow_backward: float = option(0.0, "induced optical flow to t-1 against the given flow, L1", low=0)
    flow_small: float = option(0.0, "small scene flow, L1", low=0)
    flow_smooth_time: float = option(0.0, "forward = -backward scene flow in world space, L1", low=0)
    flow_smooth_ray: float = option(0.0, "scene flow smooth along the ray, L1", low=0)
    flow_smooth_second: float = option(0.0, "second-order smoothness of the tracks at t+1 and t-1, L1", low=0)
    flow_cycle: float = option(0.0, "forward then backward flow returns, L1", low=0)
    flow_zero_static: float = option(0.0, "zero flow on static rays, L2", low=0)
    blend_static: float = option(0.0, "blending small on static rays", low=0)
    blend_dynamicness: float = option(0.0, "rendered dynamic share equals the motion mask", low=0)
    blend_entropy: float = option(0.0, "entropy of the dynamic weights and of the blending", low=0)
    blend_surface: float = option(0.0, "blending concentrated near the surface on dynamic rays", low=0)
    blend_warped_static: float = option(0.0, "blending small after the flow on static rays", low=0)
    depth_dynamic: float = option(0.0, "dynamic depth against monocular depth", low=0)
    depth_static: float = option(0.0, "static depth against triangulated depth on static rays", low=0)
    depth_agree: float = option(0.0, "dynamic depth equals static depth on static rays", low=0)
    surface_density: float = option(0.0, "static weights concentrated at the triangulated surface", low=0)
    plane_variation: float = option(0.0, "total variation of the planes in space", low=0)
    plane_time: float = option(0.0, "second-order smoothness of the space-time planes in time", low=0)


PAPER_STATIC_LOSSES = LossConfig(rgb_static=1.0, semantic_static=0.08)
FLOW_STAGE_LOSSES = LossConfig(flow_forward=0.1, flow_backward=0.1, flow_cycle=0.1, flow_zero_static=0.5)
PAPER_DYNAMIC_LOSSES = LossConfig(
    rgb_full=3.0, rgb_dynamic=1.0, rgb_warped=1.0, semantic_full=0.16, semantic_dynamic=0.08, semantic_warped=0.1,
    flow_forward=0.02, flow_backward=0.02, flow_small=0.01, flow_smooth_time=0.1, flow_smooth_ray=0.1,
    flow_smooth_second=0.1, flow_cycle=1.0, flow_zero_static=0.5, blend_static=0.1, blend_dynamicness=0.1,
    blend_entropy=0.001, blend_surface=1.0, blend_warped_static=0.01, depth_dynamic=0.04, depth_agree=0.1,
)


@dataclass(frozen=True)
class StageConfig(Checked):
    """One stage of training: how long, how fast, and on which losses."""

    steps: int = option(0, "optimiser steps", low=0)
    rays: int = option(1024, "rays per step, split over the scenes", low=1)
    samples: int = option(64, "stratified samples per ray", low=2)
    lr: float = option(5e-4, "Adam learning rate of the networks", low=0)
    plane_lr: float = option(2e-2, "Adam learning rate of the planes", low=0)
    warmup_steps: int = option(0, "steps over which the learning rates rise linearly from zero", low=0)
    decay_steps: int = option(80_000, "steps in which the learning rate falls tenfold", low=1)
    moving_only: bool = option(
        False, "terms on the dynamic and the warped renderings, and their neighbour passes, on moving rays only")
    labelled_rays: float = option(
        0.0, "share of the rays that are drawn from labelled pixels alone, in frames that have any", low=0, high=1)
    surface_samples: int = option(0, "of the samples, how many are drawn around the known surface of the pixel", low=0)
    surface_spread: float = option(0.03, "standard deviation of those samples in u", low=0)
    density_noise: float = option(1.0, "standard deviation of the noise added to densities in training", low=0)
    losses: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self):
        super().__post_init__()
        if self.surface_samples not in (*range(self.samples - 1), self.samples):
            raise ConfigError(f"surface_samples = {self.surface_samples}: must leave 2 of the {self.samples} samples for "
                              "the rest of the ray, or be all of them")


@dataclass(frozen=True)
class TrainConfig(Checked):
    """The training loop."""

    seed: int = option(0, "seed of every random choice")
    clip_norm: float = option(10.0, "norm to which a larger gradient is clipped (0 = no clipping)", low=0)
    accumulate: int = option(1, "micro-batches per optimiser step (gradient accumulation)", low=1)
    bf16: bool = option(False, "bf16 autocast of the fields; flow network and aggregation stay in float32")
    tf32: bool = option(False, "TF32 matrix products in training where a GPU has them: faster, ten bits of mantissa")
    compile: bool = option(False, "let torch compile the networks, which takes a while at first; a CPU needs a C++ compiler")
    cuda_graphs: bool = option(
        True, "on a GPU, record the kernels of a step once and launch them together from then on (one process alone)")
    recompute: bool = option(
        False, "keep no activations of the dynamic branch, compute them again backward: far less memory, more time")
    save_every: int = option(500, "steps between checkpoints", low=1)
    log_every: int = option(20, "steps between TensorBoard scalars", low=1)
    images_every: int = option(500, "steps between TensorBoard image panels of a training view (0 = never)", low=0)
    keep: int = option(2, "newest checkpoints that are kept", low=1)
    threads: int = option(0, "CPU threads (0 = torch's choice; several processes share the cores)", low=0)


@dataclass(frozen=True)
class RenderConfig(Checked):
    """Rendering of whole images."""

    samples: int = option(64, "evenly spaced samples per ray when rendering", low=2)
    fine_samples: int = option(0, "further samples per ray, placed where the first ones find the static surface", low=0)
    occupancy: int = option(64, "cells per axis of the grids that skip what cannot be seen in both fields (0 = ask everywhere)", low=0)
    chunk: int = option(0, "rays at once (0 = chosen from the free memory; fewer if that does not suffice)", low=0)
    flow_density_prior: bool = option(True, "composite logits with the densities (off: uniform weights, an ablation)")


@dataclass(frozen=True)
class Config(Checked):
    """Everything a run needs."""

    out: str = option("runs/balloon", "run folder: configuration, checkpoints, TensorBoard, evaluation, renderings")
    init: str = option("", "checkpoint, or run folder, to start from (adaptation); empty = from scratch")
    device: str = option("auto", "auto, cpu, cuda, cuda:N or mps")
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    static_stage: StageConfig = field(
        default_factory=lambda: StageConfig(steps=60_000, losses=PAPER_STATIC_LOSSES))
    flow_stage: StageConfig = field(default_factory=lambda: StageConfig(
        samples=2, surface_samples=2, surface_spread=0.01, density_noise=0.0, losses=FLOW_STAGE_LOSSES))
    dynamic_stage: StageConfig = field(
        default_factory=lambda: StageConfig(steps=80_000, losses=PAPER_DYNAMIC_LOSSES))
    train: TrainConfig = field(default_factory=TrainConfig)
    render: RenderConfig = field(default_factory=RenderConfig)

    def __post_init__(self):
        super().__post_init__()
        scenes = self.data.scenes  # empty in a DataConfig of its own: all that there are
        twice = [name for number, name in enumerate(scenes) if name in scenes[:number]]
        if twice or not scenes:
            reason = f"{twice[0]} is named twice" if twice else "name a scene or several"
            raise ConfigError(f"data.scenes = [{', '.join(scenes)}]: {reason}")
