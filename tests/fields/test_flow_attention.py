"""Attention over a track equals torch's own layer; masks hide tokens completely."""

import pytest
import torch
from torch import nn

from semflow.fields.attention import RayAttention, TrackAttention

POINTS, LENGTH, HEADS, HEAD_WIDTH = 7, 3, 4, 2
WIDTH = HEADS * HEAD_WIDTH


def layer() -> TrackAttention:
    torch.manual_seed(0)
    made = TrackAttention(WIDTH, HEADS, HEAD_WIDTH).double()
    nn.init.normal_(made.merge.bias)
    nn.init.normal_(made.norm.weight)
    return made


def some_tokens() -> torch.Tensor:
    return torch.randn(LENGTH, POINTS, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def masks() -> torch.Tensor:
    """(F, N) with at least one valid token per point."""
    valid = torch.rand(LENGTH, POINTS, generator=torch.Generator().manual_seed(2)) > 0.5
    valid[1] = True
    return valid


@pytest.mark.parametrize("masked", [False, True])
def test_equals_torch_multihead_attention(masked):
    ours = layer()
    theirs = nn.MultiheadAttention(WIDTH, HEADS, bias=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.project.weight)
        theirs.in_proj_bias.zero_()
        theirs.out_proj.weight.copy_(ours.merge.weight)
        theirs.out_proj.bias.copy_(ours.merge.bias)
    tokens = some_tokens()
    valid = masks() if masked else torch.ones(LENGTH, POINTS, dtype=torch.bool)
    mixed, _ = theirs(tokens, tokens, tokens, key_padding_mask=~valid.T)
    torch.testing.assert_close(ours(tokens, valid), ours.norm(tokens + mixed))


def test_masked_tokens_have_no_influence():
    attention, tokens, valid = layer(), some_tokens(), masks()
    changed = torch.where(valid[..., None], tokens, 1e3 * torch.randn_like(tokens))
    assert not torch.equal(changed, tokens)
    torch.testing.assert_close(attention(changed, valid)[valid], attention(tokens, valid)[valid])


def test_a_point_without_valid_tokens_attends_to_nothing():
    attention, tokens = layer(), some_tokens().requires_grad_()
    valid = masks()
    valid[:, 2] = False
    mixed = attention(tokens, valid)
    torch.testing.assert_close(mixed[:, 2], attention.norm(tokens[:, 2] + attention.merge.bias))
    mixed.sum().backward()
    assert torch.isfinite(mixed).all() and torch.isfinite(tokens.grad).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in attention.parameters())


def test_permuted_tokens_give_permuted_outputs():
    attention, tokens, valid = layer(), some_tokens(), masks()
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(attention(tokens[order], valid[order]), attention(tokens, valid)[order])


def test_a_head_narrower_than_its_share_of_the_token():
    """The published head width is 4 while a token has 64 channels."""
    attention = TrackAttention(10, 2, 3)
    assert attention(torch.randn(5, 4, 10), torch.ones(5, 4, dtype=torch.bool)).shape == (5, 4, 10)
    with pytest.raises(RuntimeError):
        attention(torch.randn(5, 4, 9), torch.ones(5, 4, dtype=torch.bool))


def test_gradients_agree_with_finite_differences_and_reach_every_parameter():
    attention, valid = layer(), masks()[:, :2]
    tokens = some_tokens()[:, :2].requires_grad_()
    assert torch.autograd.gradcheck(lambda t: attention(t, valid), (tokens,), fast_mode=True)
    attention(tokens, valid).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in attention.parameters())


def test_attention_along_the_ray_mixes_within_a_ray_only():
    torch.manual_seed(0)
    attention = RayAttention(6, 2)
    features = torch.randn(3 * 4, 6)
    mixed = attention(features, 3)
    changed = features.clone()
    changed[5] += 1.0  # a sample of the second ray
    moved = (attention(changed, 3) - mixed).abs().amax(dim=1).view(3, 4) > 1e-6
    assert moved[1].all() and not moved[0].any() and not moved[2].any()
