"""Encodings of continuous coordinates: frequencies (published) and factorised feature planes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from semflow.utils.ranks import own_rows, ranks

PLANE_INIT = 0.1  # spread of a space plane's initial values around 1
MOST_COPIES, COPIED_VALUES = 32, 2**22  # see `gradient_copies`; the latter of all copies together
CODE_INIT = 0.1  # spread of a scene code's initial values around 0
# (column, row) axes of the planes over (x, y, z), and of those over (x, t), (y, t), (z, t); as slices, because a GPU has to
# be waited for to copy a list of indices to it
SPACE_PAIRS = (slice(0, 2), slice(0, 3, 2), slice(1, 3))
TIME_PAIRS = (slice(0, 4, 3), slice(1, 4, 2), slice(2, 4))


class Frequencies(torch.autograd.Function):
    """[x, sin(f x), cos(f x)]: the code itself holds its derivative, so that nothing else is kept or computed again."""

    @staticmethod
    def forward(ctx, coordinates: Tensor, frequencies: Tensor) -> Tensor:
        """(N, D) coordinates, (F,) frequencies -> (N, D + 2 D F)."""
        angles = (coordinates[..., None] * frequencies).flatten(-2)
        code = torch.cat([coordinates, angles.sin(), angles.cos_()], dim=-1)
        ctx.save_for_backward(code, frequencies)
        return code

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        """d sin(f x) = f cos(f x) dx, d cos(f x) = -f sin(f x) dx."""
        code, frequencies = ctx.saved_tensors
        channels = code.shape[-1] // (1 + 2 * len(frequencies))
        sizes = [channels, channels * len(frequencies), channels * len(frequencies)]
        (_, sine, cosine), (own, of_sine, of_cosine) = code.split(sizes, -1), gradient.split(sizes, -1)
        return own + (of_sine * cosine - of_cosine * sine).unflatten(-1, (channels, -1)) @ frequencies, None


class FrequencyEncoding(nn.Module):
    """Sines and cosines in octaves, the input included (NeRF, eq. 4).

    Args:
        in_channels: coordinates per point.
        octaves: frequencies 2^0 ... 2^(octaves-1), times pi.
        normalize: scale the code to unit L2 norm, as the flow network does.
    """

    part_points = 4096  # see fields/chunks.py: a hidden layer of 128 for them is 2 MB

    def __init__(self, in_channels: int, octaves: int, normalize: bool = False):
        super().__init__()
        self.normalize = normalize
        self.out_channels = in_channels * (1 + 2 * octaves)
        self.register_buffer("frequencies", torch.pi * 2.0 ** torch.arange(octaves), persistent=False)

    def forward(self, coordinates: Tensor, scene: int = 0) -> Tensor:
        """(N, in_channels) in about [-1, 1] -> (N, out_channels). The scene index is not used."""
        code = Frequencies.apply(coordinates, self.frequencies)
        if not self.normalize:
            return code
        octaves = len(self.frequencies) * coordinates.shape[-1]  # sin^2 + cos^2 = 1 in each
        return code * torch.rsqrt(coordinates.square().sum(-1, keepdim=True) + octaves)


class SceneCodeEncoding(nn.Module):
    """An encoding of coordinates followed by a learned code of the scene, by which one network tells scenes apart.

    Args:
        encoding: of the coordinates, the same for all scenes. scenes: their number. channels: length of a code.
    """

    def __init__(self, encoding: FrequencyEncoding, scenes: int, channels: int):
        super().__init__()
        self.coordinates = encoding
        self.out_channels = encoding.out_channels + channels
        self.part_points = encoding.part_points
        self.codes = nn.Parameter(CODE_INIT * torch.randn(scenes, channels))

    def forward(self, coordinates: Tensor, scene: int = 0) -> Tensor:
        """(N, in_channels) -> (N, out_channels)."""
        code = self.codes[scene].expand(len(coordinates), -1)
        return torch.cat([self.coordinates(coordinates, scene), code], dim=-1)


class SquaredSteps(torch.autograd.Function):
    """Sums of squared differences of neighbours: all axes add to one gradient, where slices would fill two for each axis."""

    @staticmethod
    def forward(ctx, planes: Tensor, axes: tuple[int, ...], channels: slice) -> tuple[Tensor, ...]:
        """(P, C, rows, columns) planes, axes and channels that count -> a scalar for each axis."""
        steps = [planes[:, channels].diff(dim=axis) for axis in axes]
        ctx.save_for_backward(*steps)
        ctx.shape, ctx.axes, ctx.channels = planes.shape, axes, channels
        return tuple(torch.linalg.vector_norm(step).square() for step in steps)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Of (b - a)^2: 2 (b - a) for b, and its negative for a."""
        found = ctx.saved_tensors[0].new_zeros(ctx.shape)
        own = found[:, ctx.channels]
        for axis, step, gradient in zip(ctx.axes, ctx.saved_tensors, gradients):
            twice = 2.0 * gradient
            own.narrow(axis, 1, step.shape[axis]).addcmul_(step, twice)
            own.narrow(axis, 0, step.shape[axis]).addcmul_(step, twice, value=-1)
        return found, None, None


class PlaneEncoding(nn.Module):
    """Products of features read from axis-aligned planes, several resolutions (K-Planes, eq. 1).

    Coordinates (x, y, z) use three planes, (x, y, z, t) six. Space planes start near 1 with noise, space-time
    planes at exactly 1, so that a scene starts static. Every scene has its own planes.

    Args:
        boxes: (scenes, 2, in_channels) lower and upper corner of each scene in the coordinates; values
            outside are read at the border.
        channels: features per level.
        levels: resolution of the space axes, per level.
        time_steps: resolution of the time axis, per scene (ignored without time).
    """

    part_points = 32768  # every part makes, and adds up, a gradient as large as the planes

    def __init__(self, boxes: Tensor, channels: int, levels: tuple[int, ...], time_steps: tuple[int, ...] = ()):
        super().__init__()
        self.with_time = boxes.shape[-1] == 4
        self.level_count = len(levels)
        self.out_channels = channels * len(levels)
        self.register_buffer("boxes", boxes)
        self.space, self.time = nn.ParameterList(), nn.ParameterList()
        for scene in range(len(boxes)):
            for resolution in levels:
                noise = PLANE_INIT * torch.randn(len(SPACE_PAIRS), channels, resolution, resolution)
                self.space.append(nn.Parameter(1.0 + noise))
                if self.with_time:
                    self.time.append(nn.Parameter(torch.ones(len(TIME_PAIRS), channels, time_steps[scene], resolution)))

    def of_scene(self, scene: int) -> list[tuple[Tensor, Tensor | None]]:
        """Planes of a scene: per level (3, C, r, r) space planes and (3, C, T, r) space-time planes or None."""
        index = range(scene * self.level_count, (scene + 1) * self.level_count)
        return [(self.space[i], self.time[i] if self.with_time else None) for i in index]

    def forward(self, coordinates: Tensor, scene: int = 0) -> Tensor:
        """(N, in_channels) -> (N, out_channels)."""
        low, high = self.boxes[scene]
        position = 2 * (coordinates - low) / (high - low) - 1
        space_grid = torch.stack([position[:, pair] for pair in SPACE_PAIRS])[:, None]  # (3, 1, N, 2)
        time_grid = torch.stack([position[:, pair] for pair in TIME_PAIRS])[:, None] if self.with_time else None
        features = []
        for space, time in self.of_scene(scene):
            product = read_planes(space, space_grid)
            if time is not None:
                product = product * read_planes(time, time_grid)
            features.append(product)
        return torch.cat(features).T

    def variation(self, scene: int) -> Tensor:
        """Mean squared difference of neighbouring cells along the space axes of all planes, a scalar.

        Several ranks share the channels: the mean over the ranks of what they return is that scalar.
        """
        terms = []
        for space, time in self.of_scene(scene):
            terms.append(roughness(space, (3, 2)))
            if time is not None:
                terms.append(roughness(time, (3,)))
        return torch.cat(terms).mean()

    def time_roughness(self, scene: int) -> Tensor:
        """Mean squared second difference along the time axis of the space-time planes, a scalar."""
        terms = [t.diff(n=2, dim=2).square().mean() for _, t in self.of_scene(scene) if t is not None and t.shape[2] > 2]
        return torch.stack(terms).mean() if terms else torch.zeros((), device=self.boxes.device)


def roughness(planes: Tensor, axes: tuple[int, ...]) -> Tensor:
    """(A,) mean squared difference along each of A axes of planes (3, C, rows, columns), from the channels of this rank."""
    counts = [planes.numel() // planes.shape[axis] * (planes.shape[axis] - 1) for axis in axes]
    sums = SquaredSteps.apply(planes, axes, own_rows())
    return torch.stack([ranks() / count * total for count, total in zip(counts, sums)])


def read_planes(planes: Tensor, grid: Tensor) -> Tensor:
    """Bilinear reads of (3, C, rows, columns) planes at grids (3, 1, N, 2) in [-1, 1], multiplied: (C, N)."""
    copies = gradient_copies(planes, grid)
    if copies > 1:
        planes = planes.expand(copies, *planes.shape).flatten(0, 1)
        grid = grid.unflatten(2, (-1, copies)).permute(3, 0, 1, 2, 4).flatten(0, 1)  # (copies * 3, 1, N / copies, 2)
    found = F.grid_sample(planes, grid, padding_mode="border", align_corners=True)[:, :, 0]
    first, second, third = found.unflatten(0, (copies, 3)).unbind(1)
    return (first * second * third).permute(1, 2, 0).flatten(1)  # products, whose gradient is cheaper than that of `prod`


def gradient_copies(planes: Tensor, grid: Tensor) -> int:
    """Copies of planes (3, C, rows, columns) between which a GPU shares N points, grids (3, 1, N, 2).

    It adds the points' gradients to the same few cells, one after the other: in several copies at once it takes less time.
    """
    derived = planes.requires_grad and torch.is_grad_enabled()
    return copies_of(planes.numel(), grid.shape[2]) if derived and planes.device.type == "cuda" else 1


def copies_of(values: int, points: int) -> int:
    """How many copies of `values` numbers, between which the points can be shared evenly."""
    if points % MOST_COPIES:
        return 1
    copies = max(1, min(MOST_COPIES, COPIED_VALUES // values))
    return 2 ** (copies.bit_length() - 1)  # a power of two divides the most, and so the points
