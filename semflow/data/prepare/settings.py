"""What a scene is made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from semflow.utils.errors import ConfigError


@dataclass(frozen=True)
class PrepareSettings:
    """What a scene is made from.

    Attributes:
        source: a video, or a folder of images. root, scene: where it goes: root/scene.
        frames, start, end, height: see `read_frames`.
        poses: an LLFF poses_bounds.npy of the frames that are taken of the folder `source`. colmap: a sparse model of COLMAP of
            its images. Without both the cameras are found.
        focal: focal length in pixels of the source's frames, if it is known. straight: the lens does not bend.
        raft_weights: weights of torchvision's large RAFT; None: DIS.
        label_moving: labels of two classes, background and moving, from the motion masks.
        overwrite: an old folder is moved aside.
        device: for RAFT.
    """

    source: Path
    root: Path
    scene: str
    frames: int | None = None
    start: float = 0.0
    end: float | None = None
    height: int | None = 540
    poses: Path | None = None
    colmap: Path | None = None
    focal: float | None = None
    straight: bool = False
    raft_weights: Path | None = None
    label_moving: bool = False
    overwrite: bool = False
    device: torch.device = torch.device("cpu")

    def __post_init__(self):
        if self.poses and self.colmap:
            raise ConfigError("--poses and --colmap both name cameras; give one of them")
        if (self.poses or self.colmap) and (self.focal is not None or self.straight):
            raise ConfigError("--focal and --straight are for cameras that are still to be found; leave them out beside --poses and "
                              "--colmap")
        for name, given in (("poses", self.poses), ("colmap", self.colmap)):
            if given and self.source.exists() and not self.source.is_dir():
                raise ConfigError(f"--{name} {given}: belongs to the images of a folder; give that as SOURCE, not {self.source}")
        if self.scene in ("", ".", "..") or Path(self.scene).name != self.scene:
            raise ConfigError(f"--scene {self.scene!r}: give the name of a folder, without slashes")
        for name, value, lowest in (("frames", self.frames, 2), ("height", self.height, 16), ("focal", self.focal, 1)):
            if value is not None and value < lowest:
                raise ConfigError(f"--{name} {value}: must be at least {lowest}")
