"""Building blocks of the fields against what they are defined to be."""

import pytest
import torch

from semflow.fields.heads import semantic_head
from semflow.fields.mlp import CodeBlock, ResidualBlock


def test_a_residual_block_starts_as_identity_and_computes_its_formula():
    block = ResidualBlock(5)
    hidden = torch.randn(4, 5)
    torch.testing.assert_close(block(hidden), hidden)
    torch.nn.init.normal_(block.second.weight)
    expected = hidden + block.second(block.first(hidden.relu()).relu())
    assert not torch.allclose(expected, hidden)
    torch.testing.assert_close(block(hidden), expected)


def test_a_code_block_is_a_layer_on_hidden_and_code_together():
    block = CodeBlock(5, 3)
    hidden, code = torch.randn(4, 5), torch.randn(3)
    weight = torch.cat([block.from_hidden.weight, block.from_code.weight], dim=1)
    joined = torch.cat([hidden, code.expand(4, 3)], dim=1)
    torch.testing.assert_close(block(hidden, code), (joined @ weight.T + block.from_hidden.bias).relu())


def test_a_code_block_without_code():
    block = CodeBlock(5, 0)
    hidden = torch.randn(4, 5)
    torch.testing.assert_close(block(hidden, torch.zeros(0)), block.from_hidden(hidden).relu())


@pytest.mark.parametrize("classes", [2, 7, 150])
def test_the_semantic_head_has_its_widths(classes):
    head = semantic_head(11, (8, 4), classes)
    assert [(layer.in_features, layer.out_features) for layer in head if hasattr(layer, "in_features")] == [
        (11, 8),
        (8, 4),
        (4, classes),
    ]
    torch.nn.init.constant_(head[-1].bias, -9.0)
    assert (head(torch.randn(6, 11)) < 0).all()  # logits are not rectified
