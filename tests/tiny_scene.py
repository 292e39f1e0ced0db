"""A tiny scene, a tiny model and a ray batch with every target, for tests of the fields and the renderer."""

from dataclasses import replace

import torch

from semflow.config.schema import EncoderConfig, ModelConfig
from semflow.encoders.features import FrameFeatures
from semflow.encoders.frozen import FrozenEncoder
from semflow.fields.track_scene import SurfaceCues
from semflow.geometry.cameras import Cameras
from semflow.geometry.spaces import camera_rays, make_space
from semflow.models.scene_context import SceneContext, SceneShape, scene_box
from semflow.models.semantic_flow import SemanticFlow
from semflow.records import RayBatch
from semflow.rendering.renderer import Sampling

HEIGHT, WIDTH, CLASSES = 12, 16, 3
TINY_MODEL = ModelConfig(
    encoding="frequency",
    octaves=2,
    plane_channels=2,
    plane_levels=(3, 4),
    flow_plane_levels=(3,),
    code_hidden=6,
    code_width=5,
    static_width=8,
    static_blocks=2,
    dynamic_width=8,
    dynamic_code_blocks=1,
    dynamic_blocks=2,
    flow_width=8,
    flow_octaves=2,
    attention_width=6,
    attention_heads=2,
    attention_head_width=3,
)
TINY_ENCODER = EncoderConfig(kind="pixels", static_kind="none")
TINY_SAMPLING = Sampling(
    samples=6, surface_samples=0, surface_spread=0.05, density_noise=0.0, moving_only=False, density_prior=True
)


def tiny_cameras(frames: int) -> Cameras:
    """Forward-facing cameras on a shallow arc, each turned a little."""
    poses = []
    for frame in range(frames):
        turn = 0.04 * (frame - 1)
        spin = torch.tensor([[0.0, 0.01, turn], [-0.01, 0.0, 0.0], [-turn, 0.0, 0.0]])
        centre = torch.tensor([[0.12 * frame - 0.2], [0.03 * frame], [0.0]])
        poses.append(torch.cat([torch.matrix_exp(spin), centre], dim=1))
    return Cameras(torch.stack(poses), 16.0, HEIGHT, WIDTH, torch.full((frames,), 1.5), torch.full((frames,), 5.0))


def tiny_frames(frames: int, seed: int = 0) -> torch.Tensor:
    """(T, H, W, 3) random colours."""
    return torch.rand(frames, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(seed))


class TinyImageEncoder(FrozenEncoder):
    """A frozen encoder of one BatchNorm layer: its output would follow the clip, were it ever in training mode."""

    channels, code_channels = 4, 0

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, self.channels, 1)
        self.norm = torch.nn.BatchNorm2d(self.channels)
        self.freeze()

    def forward(self, frames: torch.Tensor) -> FrameFeatures:
        """Maps (T, H, W, 4)."""
        return FrameFeatures(self.norm(self.layer(frames)).permute(0, 2, 3, 1).contiguous(), frames.new_zeros(0))


def tiny_model(
    frames=(4,), model: ModelConfig = TINY_MODEL, encoder: EncoderConfig = TINY_ENCODER, seed: int = 0, **changes
) -> SemanticFlow:
    """A model of one scene per entry of `frames`; `changes` are keys of `ModelConfig`.

    Its densities vary: the uniform fog that fields start with would tell no two points apart.
    """
    torch.manual_seed(seed)
    made = SemanticFlow(replace(model, **changes), encoder, CLASSES, [tiny_shape(count) for count in frames], seed)
    for field in (made.static, made.dynamic):
        torch.nn.init.normal_(field.density.weight, std=0.5)
    return made


def tiny_shape(frames: int) -> SceneShape:
    cameras = tiny_cameras(frames)
    return SceneShape(frames, scene_box(cameras, make_space("ndc", cameras, clip_to_bounds=True)))


def tiny_context(
    model: SemanticFlow, index: int = 0, frames: int = 4, rgb: torch.Tensor | None = None, cues: bool = False
) -> SceneContext:
    """Scene `index` as the model sees it."""
    cameras = tiny_cameras(frames)
    space = make_space("ndc", cameras, clip_to_bounds=True)
    rgb = tiny_frames(frames, seed=index) if rgb is None else rgb
    maps = torch.rand(frames, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(9))
    return model.encode(index, rgb, cameras, space, SurfaceCues(maps, (maps > 0.5).float()) if cues else None)


def tiny_batch(scene: SceneContext, frame: int, rays: int = 8) -> RayBatch:
    """Rays of one frame with labels, flow and depth; the second half of the rays move."""
    generator = torch.Generator().manual_seed(frame)
    uv = torch.rand(rays, 2, generator=generator) * torch.tensor([WIDTH, HEIGHT])
    surface = torch.rand(rays, generator=generator)
    everywhere = torch.ones(rays, dtype=torch.bool)
    return RayBatch(
        rays=camera_rays(scene.cameras, scene.space, frame, uv),
        frame=frame,
        source=(frame + 1) % scene.frames,
        still=rays // 2,
        rgb=torch.rand(rays, 3, generator=generator),
        labels=torch.randint(CLASSES, (rays,), generator=generator),
        color_valid=everywhere,
        flow={offset: torch.randn(rays, 2, generator=generator) for offset in (-1, 1)},
        flow_valid={1: everywhere, -1: everywhere},
        disparity=1.0 - surface,
        surface_u=surface,
        surface_metric=False,
        triangulated_u=surface,
        triangulated_valid=everywhere,
    )
