"""The published step computed plainly, from docs/method.md and a model's weights: the oracle of everything that is fast.

Nothing is shared, skipped, projected beforehand or split into parts: every Euler sub-step is evaluated, features are read at
full width by `grid_sample` for every point, attention is torch's own, and compositing is a loop over the samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from semflow.fields.mlp import CodeBlock, ResidualBlock
from semflow.models.scene_context import SceneContext
from semflow.models.semantic_flow import SemanticFlow
from semflow.records import FieldSamples, FlowTrack, Neighbour, RayBatch, RenderOutputs, Rendering


def frequencies(x: Tensor, octaves: int) -> Tensor:
    """[x, sin, cos] with the octaves of a coordinate side by side."""
    angles = (x[..., None] * torch.pi * 2.0 ** torch.arange(octaves)).flatten(-2)
    return torch.cat([x, torch.sin(angles), torch.cos(angles)], dim=-1)


def with_time(points: Tensor, time: float, frames: int) -> Tensor:
    """(N, 4) points and normalised time."""
    return torch.cat([points, torch.full_like(points[:, :1], 2.0 * time / frames - 1.0)], dim=-1)


def residual(block: ResidualBlock, hidden: Tensor) -> Tensor:
    return hidden + block.second(torch.relu(block.first(torch.relu(hidden))))


def code_block(block: CodeBlock, hidden: Tensor, code: Tensor) -> Tensor:
    """A linear layer on [hidden, code], then the residual block."""
    weight = torch.cat([block.from_hidden.weight, block.from_code.weight], dim=1)
    both = torch.cat([hidden, code.expand(len(hidden), -1)], dim=1)
    return residual(block.block, torch.relu(F.linear(both, weight, block.from_hidden.bias)))


def read(feature_map: Tensor, uv: Tensor, height: int, width: int) -> Tensor:
    """Bilinear read of (h, w, C) at pixels (N, 2)."""
    grid = 2 * uv / torch.tensor([width, height]) - 1
    return F.grid_sample(feature_map.permute(2, 0, 1)[None], grid[None, None], padding_mode="border", align_corners=False)[0, :, 0].T


@dataclass(frozen=True)
class Oracle:
    """The published form (frequency encoding, attention, no cues) of `model` for one scene."""

    model: SemanticFlow
    scene: SceneContext

    def code(self) -> Tensor:
        return self.model.code_mlp(self.scene.code)

    def velocity(self, points: Tensor, time: float) -> Tensor:
        flow, config = self.model.flow, self.model.config
        encoded = F.normalize(frequencies(with_time(points, time, self.scene.frames), config.flow_octaves), dim=-1)
        hidden = torch.relu(flow.first(encoded))
        for block in flow.blocks:
            hidden = code_block(block, hidden, self.code())
        return torch.tanh(flow.last(torch.relu(hidden)))

    def track(self, points: Tensor, frame: int) -> FlowTrack:
        positions, steps = {0: points}, self.model.config.flow_substeps
        for offset in (-1, 1):
            if 0 <= frame + offset < self.scene.frames:
                moved = points
                for step in range(steps):
                    moved = moved + offset / steps * self.velocity(moved, frame + offset * step / steps)
                positions[offset] = moved
        return FlowTrack(frame, dict(sorted(positions.items())))

    def features(self, track: FlowTrack) -> tuple[Tensor, Tensor, Tensor]:
        """Current, mean neighbour and motion features, every one a linear layer on what is read at full width."""
        aggregator, cameras = self.model.aggregator, self.scene.cameras
        own, token, other = aggregator.from_map.weight.split([aggregator.width, aggregator.token_width, aggregator.width])
        own_bias, token_bias, other_bias = aggregator.from_map.bias.split([len(own), len(token), len(other)])
        trunk, tokens, masks = {}, [], []
        for offset in (-1, 0, 1):
            if offset not in track.positions:
                tokens.append(torch.zeros(len(track.positions[0]), len(token)))
                masks.append(torch.zeros(len(track.positions[0]), dtype=torch.bool))
                continue
            frame, points = track.frame + offset, track.positions[offset]
            uv, in_front = cameras.project(self.scene.space.to_world(points), frame)
            visible = in_front & cameras.inside(uv)
            found = read(self.scene.video.maps[frame], uv, cameras.height, cameras.width)
            trunk[offset] = F.linear(found, own if offset == 0 else other, own_bias if offset == 0 else other_bias) * visible[:, None]
            shift = torch.cat([points - track.positions[0], torch.full_like(points[:, :1], float(offset))], dim=-1)
            tokens.append(F.linear(found, token, token_bias) + aggregator.from_displacement(frequencies(shift, 4)))
            masks.append(visible)
        seen = sum(masks[1 + offset] for offset in trunk if offset) * torch.ones(len(trunk[0]))
        mean = sum(trunk[offset] for offset in trunk if offset) / seen.clamp(min=1)[:, None]
        return trunk[0], mean, self.attend(torch.stack(tokens, 1), torch.stack(masks, 1))

    def attend(self, tokens: Tensor, valid: Tensor) -> Tensor:
        attention = self.model.aggregator.attention
        shape = (*tokens.shape[:2], attention.heads, attention.head_width)
        query, key, value = (x.reshape(shape).transpose(1, 2) for x in attention.project(tokens).chunk(3, dim=-1))
        seen = valid | ~valid.any(1, keepdim=True)  # torch gives NaN where nothing may be attended to
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen[:, None, None])
        mixed = mixed.transpose(1, 2).flatten(2) * valid.any(1)[:, None, None]
        return (attention.norm(tokens + attention.merge(mixed)) * valid[..., None]).flatten(1)

    def dynamic(self, track: FlowTrack) -> FieldSamples:
        field, points = self.model.dynamic, track.positions[0]
        current, neighbours, motion = self.features(track)
        hidden = field.first(frequencies(with_time(points, track.frame, self.scene.frames), self.model.config.octaves))
        for block in field.code_blocks:
            hidden = code_block(block, torch.relu(hidden), self.code())
        hidden = hidden + field.fuse(neighbours)
        for block in field.blocks:
            hidden = residual(block, hidden + current)
        hidden = torch.relu(hidden)
        return FieldSamples(field.density(hidden)[:, 0], torch.sigmoid(field.color(hidden)),
                            field.semantic(torch.cat([motion, hidden], dim=1)), torch.sigmoid(field.blend(hidden)[:, 0]))

    def static(self, points: Tensor, view_dirs: Tensor, source: int) -> FieldSamples:
        field, cameras = self.model.static, self.scene.cameras
        hidden = field.first(frequencies(points, self.model.config.octaves))
        feature = 0.0
        if self.scene.image is not None:
            uv, in_front = cameras.project(self.scene.space.to_world(points), source)
            found = field.to_feature(read(self.scene.image.maps[source], uv, cameras.height, cameras.width))
            feature = found * (in_front & cameras.inside(uv))[:, None]
        for number, block in enumerate(field.blocks):
            hidden = residual(block, hidden + feature if number < 3 else hidden)
        hidden = torch.relu(hidden)
        rgb = torch.sigmoid(field.color(torch.cat([hidden, frequencies(view_dirs, 4)], dim=1)))
        return FieldSamples(field.density(hidden)[:, 0], rgb, field.semantic(hidden))

    def render(self, batch: RayBatch, u: Tensor) -> RenderOutputs:
        """All branches of a dynamic step on rays sampled at u (R, S), without density noise."""
        rays, (count, samples) = batch.rays, u.shape
        points = (rays.origins[:, None] + u[..., None] * rays.directions[:, None]).flatten(0, 1)
        gaps = torch.cat([u[:, 1:] - u[:, :-1], u[:, -1:] - u[:, -2:-1]], 1) * rays.directions.norm(dim=1)[:, None]
        with torch.no_grad():
            static = self.static(points, rays.view_dirs.repeat_interleave(samples, 0), batch.source).on_rays(count, samples)
        track = self.track(points, batch.frame)
        dynamic = self.dynamic(track).on_rays(count, samples)
        neighbours = {}
        for offset in (-1, 1):
            if offset in track.positions:
                again = self.track(track.positions[offset], batch.frame + offset)
                moved = self.dynamic(again).on_rays(count, samples)
                neighbours[offset] = Neighbour(slice(0, None), moved, alone(moved, u, gaps), again)
        full, share = blended(static, dynamic, u, gaps)
        return RenderOutputs(
            rays, batch.frame, u, points.view(count, samples, 3), static, dynamic, alone(static, u, gaps),
            alone(dynamic, u, gaps), full, share, track, neighbours)


def composite(parts: list[tuple[Tensor, FieldSamples]], u: Tensor) -> tuple[Rendering, list[Tensor]]:
    """Front to back: opacities (R, S) and samples of one or two fields that share the transmittance."""
    reaching, weights = torch.ones_like(u[:, 0]), [[] for _ in parts]
    for i in range(u.shape[1]):
        for (alpha, _), kept in zip(parts, weights):
            kept.append(reaching * alpha[:, i])
        for alpha, _ in parts:
            reaching = reaching * (1.0 - alpha[:, i])
    weights = [torch.stack(kept, 1) for kept in weights]

    def total(name: str) -> Tensor:
        return sum((w[..., None] * getattr(samples, name)).sum(1) for w, (_, samples) in zip(weights, parts))

    both = sum(weights)
    return Rendering(total("rgb"), total("logits"), (both * u).sum(1), both.sum(1), both), weights


def alone(samples: FieldSamples, u: Tensor, gaps: Tensor) -> Rendering:
    """One field."""
    return composite([(1.0 - torch.exp(-torch.relu(samples.density) * gaps), samples)], u)[0]


def blended(static: FieldSamples, dynamic: FieldSamples, u: Tensor, gaps: Tensor) -> tuple[Rendering, Tensor]:
    """Both fields, and the dynamic share (R,)."""
    static_alpha = (1.0 - torch.exp(-torch.relu(static.density) * gaps)) * (1.0 - dynamic.blend)
    dynamic_alpha = (1.0 - torch.exp(-torch.relu(dynamic.density) * gaps)) * dynamic.blend
    rendering, weights = composite([(static_alpha, static), (dynamic_alpha, dynamic)], u)
    return rendering, weights[1].sum(1)
