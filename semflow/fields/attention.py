"""Attention over the positions of a flow track (docs/method.md, "Features along the flow")."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semflow.fields.linear import Linear


class TrackAttention(nn.Module):
    """One multi-head self-attention layer over few tokens, with residual and LayerNorm.

    The sequences are tiny (at most 5 tokens of 4 heads x 4 channels) and the points many: the points come last wherever scores
    are computed, so that sums over channels and tokens add whole rows of points. With the channels last, or by batched matrix
    products of that size, it takes two to three times as long.

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
        """Mix the tokens of tracks.

        Args:
            tokens: (F, N, width) of N points, F positions of each.
            valid: (F, N) bool; masked tokens are attended by none. A point whose tokens are all masked attends to
                nothing: its attention output is zero.

        Returns:
            (F, N, width).
        """
        f, n, _ = tokens.shape
        rows = tokens.flatten(0, 1)
        projected = (self.project.weight @ rows.T).view(3, self.heads, self.head_width, f, n)  # (3, h, d, F, N)
        query, key, value = projected.unbind(0)
        scores = (query[:, :, :, None] * key[:, :, None]).sum(1) * self.head_width**-0.5  # (h, F, F, N)
        scores = scores.masked_fill(~valid, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=2) * valid
        mixed = (weights[:, None] * value[:, :, None]).sum(3)  # (h, d, F, N)
        return self.norm((rows + self.merge(mixed.flatten(0, 1).flatten(1).T)).view_as(tokens))


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
