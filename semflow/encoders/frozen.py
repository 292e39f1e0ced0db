"""What frozen convolutional encoders share: eval mode for good, normalised input, one aligned map per frame.

Random initialisation. BatchNorm with its initial statistics (0, 1) lets the activations of an untrained deep
network grow or shrink by orders of magnitude. A randomly initialised encoder is therefore calibrated once, when
it is built: its BatchNorm statistics, and then the mean and deviation of each output channel, are measured on
synthetic panning clips with the 1/f spectrum of natural images. Outputs have about zero mean and unit variance,
and the encoder stays a fixed function of the seed: the same for every scene, and per frame where its layers are.
Pretrained weights are never calibrated and their outputs are not rescaled.
"""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class FrozenEncoder(nn.Module):
    """Base of the encoders that are never trained: no gradients, and eval mode whatever a parent is set to."""

    trainable = False

    def freeze(self) -> None:
        """Drop gradients and enter eval mode; to be called once the layers are built."""
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Stay in eval mode: a parent's `.train()` must not make BatchNorm follow the clip."""
        return super().train(False)


@contextlib.contextmanager
def seeded(seed: int):
    """Draw from the CPU generator as if freshly seeded; its state is restored afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def normalise_imagenet(frames: Tensor) -> Tensor:
    """Frames (T, 3, H, W) in [0, 1] with ImageNet's mean and deviation taken out."""
    mean, std = frames.new_tensor(_IMAGENET_MEAN), frames.new_tensor(_IMAGENET_STD)
    return (frames - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)


def resize_stage(stage: Tensor, stride: int, image_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Bilinear read of a stage at the cell centres of a map that covers the image evenly.

    Cell k of a stage of total stride s (odd kernels, padding of half a kernel) is computed around the pixel
    with index s * k, i.e. at s * k + 0.5. A plain resize of the arrays takes it for the middle of s pixels
    and moves the features by (s - 1) / 2 pixels (7.5 in ResNet's layer3); here they stay where they belong.

    Args:
        stage: (T, C, h', w') output of a stage.
        stride: pixels of the image per cell of the stage.
        image_size: (H, W).
        size: (h, w) of the map.

    Returns:
        (T, h, w, C); cells beyond the outermost centres repeat the border.
    """
    for dim, length, out in ((2, image_size[0], size[0]), (3, image_size[1], size[1])):
        centre = (torch.arange(out, device=stage.device, dtype=stage.dtype) + 0.5) * length / out  # pixels
        position = ((centre - 0.5) / stride).clamp(0, stage.shape[dim] - 1)
        below = position.floor().long().clamp(max=max(stage.shape[dim] - 2, 0))
        above = (below + 1).clamp(max=stage.shape[dim] - 1)
        weight = (position - below).view([-1 if axis == dim else 1 for axis in range(4)])
        stage = torch.lerp(stage.index_select(dim, below), stage.index_select(dim, above), weight)
    return stage.permute(0, 2, 3, 1)


def natural_clips(clips: int, frames: int, size: int) -> Tensor:
    """Synthetic panning clips with natural statistics, from the CPU generator: see the module's docstring.

    Returns:
        (clips, frames, 3, size, size) in [0, 1]: amplitude spectrum 1/f, correlated colours, 2 pixels per frame.
    """
    frequency = torch.fft.fftfreq(size)
    radius = (frequency[:, None] ** 2 + frequency[None] ** 2).sqrt().clamp(min=1 / size)
    noise = torch.randn(clips, 4, size, size)
    texture = torch.fft.ifft2(torch.fft.fft2(noise) / radius).real
    texture = texture / texture.std(dim=(2, 3), keepdim=True)
    colours = texture[:, :1] + 0.3 * texture[:, 1:]  # one luminance pattern, three weaker ones of colour
    images = (0.45 + 0.25 * colours).clamp(0, 1)  # (clips, 3, size, size)
    return torch.stack([images.roll(2 * index, dims=-1) for index in range(frames)], dim=1)


@contextlib.contextmanager
def measuring_norms(module: nn.Module):
    """Within the block, each BatchNorm of `module` measures its statistics anew; afterwards they are fixed."""
    norms = [layer for layer in module.modules() if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d))]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # plain average over the passes
        norm.train()
    yield
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
        norm.eval()
