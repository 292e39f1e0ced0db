"""A random but plausible scene in memory, of any size: what a benchmark trains on where no data is needed."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semflow.config.schema import DataConfig
from semflow.encoders.features import FrameFeatures, clip_descriptor
from semflow.encoders.image import ResNet18Encoder
from semflow.encoders.reduction import ReducedEncoder
from semflow.encoders.video import SlowOnlyEncoder
from semflow.engine.scenes import KeptScene
from semflow.fields.flow import Timeline
from semflow.geometry.cameras import Cameras
from semflow.geometry.spaces import make_space
from semflow.models.scene_context import SceneContext
from semflow.models.semantic_flow import SemanticFlow
from semflow.records import LabelMap, SceneData

MOVING_SHARE = 0.1  # of the pixels of every frame
CONSISTENT_SHARE = 0.9  # of the pixels of every flow
MAP_STRIDES = {SlowOnlyEncoder: 2, ResNet18Encoder: 4}  # pixels of the image per cell of the map
NEAR, FAR, FOCUS = 1.2, 10.0, 4.0  # world units, scaled as docs/method.md, "Space and time" says


def smooth_noise(channels: int, frames: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """(frames, height, width, channels) in about [0, 1]: a few soft blobs per image."""
    coarse = torch.rand(frames, channels, 5, 9, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)
    return smooth.permute(0, 2, 3, 1).contiguous()


def lowest_share(values: Tensor, share: float) -> Tensor:
    """(T, H, W) bool: in every frame the `share` of the pixels with the lowest values (T, H, W)."""
    flat = values.flatten(1)
    limit = flat.kthvalue(max(1, round(share * flat.shape[1])), dim=1).values
    return values <= limit[:, None, None]


def arc_cameras(frames: int, height: int, width: int) -> Cameras:
    """Cameras 6 degrees to either side of the middle on an arc around (0, 0, -4), looking at it."""
    poses = []
    for frame in range(frames):
        angle = math.radians(12.0) * ((frame + 0.5) / frames - 0.5)
        back = torch.tensor([math.sin(angle), 0.0, math.cos(angle)])
        right = torch.tensor([math.cos(angle), 0.0, -math.sin(angle)])
        centre = FOCUS * back - torch.tensor([0.0, 0.0, FOCUS])
        poses.append(torch.stack([right, torch.tensor([0.0, 1.0, 0.0]), back, centre], dim=-1))
    return Cameras(torch.stack(poses), 0.9 * width, height, width, torch.full((frames,), NEAR), torch.full((frames,), FAR))


def random_scene(data: DataConfig, frames: int, height: int, width: int, classes: int, seed: int) -> SceneData:
    """A scene on the CPU: smooth images and flows, an arc of cameras, a tenth of the pixels moving, all frames labelled."""
    generator = torch.Generator().manual_seed(seed)

    def noise(channels: int) -> Tensor:
        return smooth_noise(channels, frames, height, width, generator)

    cameras = arc_cameras(frames, height, width)
    flows = [6.0 * (noise(2) - 0.5) * width / 480 for _ in range(2)]  # up to 3 pixels at 480x270
    valid = [lowest_share(noise(1)[..., 0], CONSISTENT_SHARE) for _ in range(2)]
    valid[0][-1], valid[1][0] = False, False
    names = tuple(f"class {k}" for k in range(classes))
    label_map = LabelMap(names, torch.zeros(classes, 3, dtype=torch.uint8), (classes - 1,))
    return SceneData(
        "random", noise(3), cameras, make_space(data.space, cameras, data.clip_to_bounds), 0.1 + 0.8 * noise(1)[..., 0],
        lowest_share(noise(1)[..., 0], MOVING_SHARE), flows[0], valid[0], flows[1], valid[1],
        noise(classes).argmax(-1), label_map)


def random_context(model: SemanticFlow, index: int, scene: KeptScene) -> SceneContext:
    """Scene `index` as `SemanticFlow.encode` gives it, with random maps of the right size for the deep encoders."""
    frames = scene.rgb.permute(0, 3, 1, 2)
    video = None if model.video_encoder.trainable else random_features(model.video_encoder, frames)
    code = clip_descriptor(frames) if video is None else video.code
    image = random_features(model.image_encoder, frames) if model.image_encoder.channels else None
    return SceneContext(index, Timeline(len(frames)), scene.cameras, scene.space, scene.rgb, video, code, image, scene.cues)


def random_features(encoder: nn.Module, frames: Tensor) -> FrameFeatures:
    """Features of frames (T, 3, H, W): random ones for a deep encoder, the true ones for the others."""
    stride = MAP_STRIDES.get(type(encoder.encoder if isinstance(encoder, ReducedEncoder) else encoder))
    if stride is None:
        if isinstance(encoder, ReducedEncoder) and not encoder.fitted:
            encoder.fit([frames.contiguous()])
        return encoder(frames.contiguous())
    height, width = frames.shape[-2:]
    size = (len(frames), math.ceil(height / stride), math.ceil(width / stride), encoder.channels)
    return FrameFeatures(torch.randn(size, device=frames.device), torch.randn(encoder.code_channels, device=frames.device))
