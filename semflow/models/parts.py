"""Which networks a configuration names."""

from __future__ import annotations

from torch import nn

from semflow.config.schema import ModelConfig
from semflow.fields.aggregation import FlowAggregator, FlowAttentionAggregator, MeanAggregator, PointAggregator


def build_code_mlp(channels: int, hidden: int, width: int) -> nn.Module | None:
    """What turns the clip descriptor (channels,) into the code (width,); None without a code."""
    return nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, width)) if width else None


def build_aggregator(model: ModelConfig, channels: int, cues: bool) -> FlowAggregator:
    """The aggregator that the configuration names; `none` reads no features."""
    shared = (cues, model.feature_gradient)
    if model.aggregator == "none" or not channels:
        return PointAggregator(0, model.dynamic_width, *shared)
    if model.aggregator == "point":
        return PointAggregator(channels, model.dynamic_width, *shared)
    if model.aggregator == "mean":
        return MeanAggregator(channels, model.dynamic_width, model.flow_length, *shared)
    return FlowAttentionAggregator(
        channels, model.dynamic_width, model.flow_length, *shared, model.attention_width, model.attention_heads,
        model.attention_head_width, model.displacement, model.ray_attention)
