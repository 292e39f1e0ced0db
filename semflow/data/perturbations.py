"""Less or worse data than a scene holds, for training alone: weak and wrong labels, noise, an occluding patch.

Works on every scene, whoever made it; the noise is that of the maker of synthetic scenes. Every function takes a whole
`SceneData` on the CPU and returns another. Each kind of noise draws from its own generator, seeded by `train.seed`, the name
of the scene and the frame, so that no kind disturbs another and every process gets the same.

The truth that a run is judged by is never touched: evaluation reads the scene as it lies on disk, its cameras included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from semflow.config.schema import DataConfig
from semflow.data.synthetic.noise import generator, noisy_flow, noisy_labels, noisy_poses
from semflow.data.weak_labels import kept_pixels
from semflow.geometry.spaces import make_space
from semflow.records import SceneData
from semflow.utils.errors import ConfigError

Draw = Callable[[str], np.random.Generator]  # purpose -> its generator


def perturbed(scene: SceneData, config: DataConfig, seed: int) -> SceneData:
    """The scene as training gets it; the scene itself where the configuration asks for nothing else.

    The patch comes first: labels are drawn and spoilt on what it leaves to be seen. Wrong labels come last: they are a share
    of the labels that are kept.

    Args:
        scene: as it was read, on the CPU. config: what to do to it. seed: of everything random.

    Raises:
        ConfigError: wrong labels of a scene with a single class.
    """

    def draw(purpose: str) -> np.random.Generator:
        return generator(seed, f"{scene.name} {purpose}")

    if config.occlusion:
        scene = with_occlusion(scene, config.occlusion, draw)
    if config.label_kind != "full":
        scene = with_weak_labels(scene, config.label_kind, config.label_fraction, draw)
    if config.label_noise:
        scene = with_label_noise(scene, config.label_noise, draw)
    if config.flow_noise:
        scene = with_flow_noise(scene, config.flow_noise, draw)
    if config.pose_noise:
        scene = with_pose_noise(scene, config, draw)
    return scene


def with_occlusion(scene: SceneData, size: float, draw: Draw) -> SceneData:
    """A square of one colour, `size` of the image width wide, wanders evenly across the frames.

    It goes straight from one random place to another. The pixels under it have the square's colour; there they have no
    label, no valid flow, and do not count as moving. The inverse depth stays that of the scene.
    """
    rng = draw("occlusion")
    side = min(max(1, round(size * scene.width)), scene.width, scene.height)
    first, last = rng.random((2, 2)) * [scene.height - side, scene.width - side]
    color = torch.from_numpy(rng.integers(0, 256, 3)).float() / 255
    hidden = torch.zeros_like(scene.motion)
    for frame, share in enumerate(np.linspace(0, 1, scene.frames)):
        row, column = np.round(first + share * (last - first)).astype(int)
        hidden[frame, row : row + side, column : column + side] = True
    return replace(
        scene,
        rgb=torch.where(hidden[..., None], color, scene.rgb),
        labels=scene.labels.masked_fill(hidden, -1),
        motion=scene.motion & ~hidden,
        flow_forward_valid=scene.flow_forward_valid & ~hidden,
        flow_backward_valid=scene.flow_backward_valid & ~hidden,
    )


def with_weak_labels(scene: SceneData, kind: str, fraction: float, draw: Draw) -> SceneData:
    """Of the labels of every labelled frame only some pixels; see `weak_labels.kept_pixels`."""

    def weak(labels: np.ndarray, frame: int) -> np.ndarray:
        return np.where(kept_pixels(labels, kind, fraction, draw(f"fraction {frame}")), labels, -1)

    return replace(scene, labels=by_frame(scene.labels, weak))


def with_label_noise(scene: SceneData, amount: float, draw: Draw) -> SceneData:
    """The share `amount` of the labelled pixels has another class, any with equal probability, pixel by pixel.

    Raises:
        ConfigError: there is no other class.
    """
    if len(scene.label_map) < 2:
        raise ConfigError(f"data.label_noise = {amount}: scene {scene.name} has a single class; set it to 0")

    def wrong(labels: np.ndarray, frame: int) -> np.ndarray:
        noisy = noisy_labels(labels, len(scene.label_map), amount, draw(f"labels {frame}"))
        return np.where(labels >= 0, noisy, -1)

    return replace(scene, labels=by_frame(scene.labels, wrong))


def with_flow_noise(scene: SceneData, amount: float, draw: Draw) -> SceneData:
    """Gaussian noise on both components of every flow, its deviation `amount` times the RMS length of that flow."""

    def noisy(direction: str) -> Callable[[np.ndarray, int], np.ndarray]:
        return lambda flow, frame: noisy_flow(flow, amount, draw(f"flow {frame} {direction}"))

    return replace(scene, flow_forward=by_frame(scene.flow_forward, noisy("fwd")),
                   flow_backward=by_frame(scene.flow_backward, noisy("bwd")))


def with_pose_noise(scene: SceneData, config: DataConfig, draw: Draw) -> SceneData:
    """Gaussian noise on every camera: `config.pose_noise` radians about each axis, and times the nearest depth per coordinate.

    The world stays where the exact cameras have put it, so a trained field can be looked at through those.
    """
    cameras = scene.cameras
    c2w = noisy_poses(cameras.c2w.double().numpy(), float(cameras.near.min()), config.pose_noise, draw("poses"))
    cameras = replace(cameras, c2w=torch.from_numpy(c2w).float())
    return replace(scene, cameras=cameras, space=make_space(config.space, cameras, config.clip_to_bounds))


def by_frame(maps: Tensor, change: Callable[[np.ndarray, int], np.ndarray]) -> Tensor:
    """(T, ...) maps, each changed by `change(map, frame)`."""
    return torch.stack([torch.from_numpy(change(map_.numpy(), frame)) for frame, map_ in enumerate(maps)])
