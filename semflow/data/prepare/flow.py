"""Optical flow between frames: DIS of OpenCV, or RAFT of torchvision where its weights are at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.optical_flow import raft_large
from tqdm import tqdm

from semflow.encoders.weights import load_weights, read_state_dict
from semflow.geometry.optical_flow import consistent

FlowMethod = Callable[[np.ndarray, np.ndarray], Tensor]  # two frames (H, W, 3) uint8 -> (H, W, 2) pixels
RAFT_REMEDY = "download raft_large_C_T_SKHT_V2-ff5fadd5.pth from PyTorch's model page, or leave out --raft-weights"
RAFT_STEP, RAFT_SMALLEST, RAFT_UPDATES = 8, 128, 20  # it wants sizes that are multiples of the first and no smaller than the second


@dataclass(frozen=True)
class Flow:
    """Flow from a frame to another: (H, W, 2) pixels, and (H, W) bool where the flow back agrees."""

    vectors: Tensor
    valid: Tensor


def dis_flow() -> FlowMethod:
    """Dense inverse search (Kroeger et al., ECCV 2016) down to the finest scale, with overlapping patches and refinement."""
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    search.setPatchStride(1)
    search.setGradientDescentIterations(60)
    search.setVariationalRefinementIterations(10)

    def flow(first: np.ndarray, second: np.ndarray) -> Tensor:
        return torch.from_numpy(search.calc(*(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second)), None))

    return flow


def raft_flow(weights: Path, device: torch.device) -> FlowMethod:
    """RAFT (Teed and Deng, ECCV 2020), torchvision's large network; CheckpointError where the weights do not fit."""
    network = raft_large(weights=None).to(device).eval()
    load_weights(network, read_state_dict(weights, RAFT_REMEDY), weights)

    @torch.no_grad()
    def flow(first: np.ndarray, second: np.ndarray) -> Tensor:
        height, width = first.shape[:2]
        pair = torch.from_numpy(np.stack([first, second])).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        more = [max(-size % RAFT_STEP, RAFT_SMALLEST - size) for size in (width, height)]
        padded = F.pad(pair, (0, more[0], 0, more[1]), mode="replicate")
        return network(padded[:1], padded[1:], RAFT_UPDATES)[-1][0, :, :height, :width].permute(1, 2, 0).cpu()

    return flow


def flows_between(frames: list[np.ndarray], reach: int, method: FlowMethod) -> dict[tuple[int, int], Flow]:
    """Flow between all frames that are at most `reach` apart, both ways: (from, to) -> flow."""
    pairs = [(i, j) for i, j in product(range(len(frames)), repeat=2) if 0 < abs(i - j) <= reach]
    vectors = {pair: method(*(frames[frame] for frame in pair)) for pair in tqdm(pairs, desc="Optical flow", unit="pair")}
    return {(i, j): Flow(flow, consistent(flow, vectors[j, i])) for (i, j), flow in vectors.items()}
