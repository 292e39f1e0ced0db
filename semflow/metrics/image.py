"""Image similarity: PSNR, SSIM, and LPIPS where its weights are at hand. Images are (H, W, 3) in [0, 1].

Computed in float64, which Apple GPUs lack: move images to the CPU first.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

PSNR_CAP = 100.0  # dB; identical images would be infinitely good, which no mean and no JSON can hold
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
LPIPS_WEIGHTS = "alexnet-owt-7be5be79.pth"  # torchvision's AlexNet; the package brings the linear layers


@dataclass(frozen=True)
class Lpips:
    """The LPIPS metric, or why there is none.

    Attributes:
        distance: (prediction, truth), both (H, W, 3) -> distance, lower is better; None where it cannot be computed.
        reason: why not; empty where it can.
    """

    distance: Callable[[Tensor, Tensor], float] | None
    reason: str = ""


def psnr(prediction: Tensor, truth: Tensor, cap: float = PSNR_CAP) -> float:
    """Peak signal-to-noise ratio in dB, at most `cap`.

    Args:
        prediction: (..., 3) in [0, 1].
        truth: the same shape.
        cap: value of identical images.

    Raises:
        ValueError: different shapes.
    """
    _require_same_shape(prediction, truth)
    error = float((prediction.double() - truth.double()).square().mean())
    return cap if error == 0.0 else min(cap, -10.0 * math.log10(error))


def ssim(prediction: Tensor, truth: Tensor, window: int = SSIM_WINDOW, sigma: float = SSIM_SIGMA) -> float:
    """Structural similarity (Wang et al. 2004) per channel, mean over all windows that lie in the image.

    Args:
        prediction: (H, W, C) in [0, 1].
        truth: the same shape.
        window: width of the Gaussian window in pixels.
        sigma: standard deviation of the window in pixels.

    Raises:
        ValueError: different shapes, or images smaller than the window.
    """
    _require_same_shape(prediction, truth)
    if min(prediction.shape[:2]) < window:
        raise ValueError(f"ssim: images of {tuple(prediction.shape[:2])} are smaller than the window of {window}")
    x, y = (image.double().permute(2, 0, 1)[:, None] for image in (prediction, truth))  # (C, 1, H, W)
    kernel = _gaussian(window, sigma, x.device)

    def blurred(image: Tensor) -> Tensor:
        return functional.conv2d(functional.conv2d(image, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))

    mean_x, mean_y = blurred(x), blurred(y)
    variance_x, variance_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2  # K1, K2 of the paper, for a range of 1
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return float((luminance * structure).mean())


@lru_cache(maxsize=2)
def find_lpips(device: str = "cpu") -> Lpips:
    """LPIPS (AlexNet) if the optional package and its weights are at hand; nothing is ever downloaded."""
    try:
        package = importlib.import_module("lpips")
    except ImportError:
        return Lpips(None, "the optional package lpips is not installed (pip install -e '.[lpips]')")
    weights = Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_WEIGHTS
    if not weights.is_file():
        return Lpips(None, f"no AlexNet weights at {weights} (download.pytorch.org/models/{LPIPS_WEIGHTS})")
    network = package.LPIPS(net="alex", verbose=False).to(device).eval()

    @torch.no_grad()
    def distance(prediction: Tensor, truth: Tensor) -> float:
        x, y = (2.0 * image.float().permute(2, 0, 1)[None].to(device) - 1.0 for image in (prediction, truth))
        return float(network(x, y))

    return Lpips(distance)


def _gaussian(window: int, sigma: float, device: torch.device) -> Tensor:
    """(window,) float64 weights that sum to 1."""
    offsets = torch.arange(window, dtype=torch.float64, device=device) - (window - 1) / 2
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    return weights / weights.sum()


def _require_same_shape(prediction: Tensor, truth: Tensor) -> None:
    if prediction.shape != truth.shape:
        raise ValueError(f"images of different shapes: {tuple(prediction.shape)} and {tuple(truth.shape)}")
