"""Attention over the positions of a flow track (docs/method.md, "Features along the flow")."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semflow.fields.linear import Linear


class TrackAttention(nn.Module):
    """One multi-head self-attention layer over few tokens, with residual and LayerNorm.

    The sequences are tiny (at most 5 tokens of 4 heads x 4 channels): scores are elementwise products summed over
    the head width, which is faster than batched matrix products of that size.

    Args:
        width: token width.
        heads: number of heads.
        head_width: channels of a head.
    """

    def __init__(self, width: int, heads: int, head_width: int):
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.project = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.merge = Linear(heads * head_width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, valid: Tensor) -> Tensor:
        """Mix tokens of a track.

        Args:
            tokens: (N, F, width).
            valid: (N, F) bool; masked tokens are attended by none. A point whose tokens are all masked attends to
                nothing: its attention output is zero.

        Returns:
            (N, F, width).
        """
        n, f, _ = tokens.shape
        query, key, value = self.project(tokens).view(n, f, 3, self.heads, self.head_width).unbind(2)  # (N, F, h, d)
        scores = (query[:, :, None] * key[:, None]).sum(-1) * self.head_width**-0.5  # (N, F, F, h)
        scores = scores.masked_fill(~valid[:, None, :, None], torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=2) * valid[:, None, :, None]
        mixed = (weights[..., None] * value[:, None]).sum(2)  # (N, F, h, d)
        return self.norm(tokens + self.merge(mixed.flatten(2).flatten(0, 1)).view_as(tokens))


class RayAttention(nn.Module):
    """Optional second attention along the samples of a ray, with residual and LayerNorm."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor, rays: int) -> Tensor:
        """(R*S, width) features of R rays -> (R*S, width)."""
        on_rays = features.view(rays, len(features) // max(rays, 1), features.shape[-1])
        mixed, _ = self.attention(on_rays, on_rays, on_rays, need_weights=False)
        return self.norm(on_rays + mixed).flatten(0, 1)
