"""Where the files of a scene lie (the Semantic Dynamic Scene layout) and which of them belong to a frame.

    <root>/labelmap.txt, <root>/foreground_object.txt
    <root>/<Scene>/images, images_K, poses_bounds.npy, disp, motion_masks, flow, SegmentationClass_train
    <root>/<Scene>/multiview_GT/00000001/cam01.jpg, multiview_GT_semantic/00000001/cam01.png (optional)

Labels, label truth, labelmap.txt and foreground_object.txt may lie under a second root (`labels_dir`), which
is looked at first. Frames are the images sorted by name; the other files have the name of their frame.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from semflow.config.schema import DataConfig
from semflow.data.problems import BrokenFile

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
UNREAD_IMAGE_SUFFIXES = (".tif", ".tiff", ".bmp", ".webp", ".gif", ".exr", ".heic", ".ppm")
IMAGES_FOLDER = re.compile(r"images(_[1-9][0-9]*)?")


@dataclass(frozen=True)
class FolderKind:
    """One kind of folder of a scene.

    Attributes:
        name: folder name.
        suffixes: endings of its files, lower case.
        remedy: what to do where it or a file of it is missing.
    """

    name: str
    suffixes: tuple[str, ...]
    remedy: str


IMAGES = FolderKind("images", IMAGE_SUFFIXES, "put the frames of the video there as 000.png, 001.png, ...")
DISPARITY = FolderKind(
    "disp",
    (".npy",),
    "compute inverse depth with any monocular depth network and save each frame's (h, w) array as disp/000.npy, ...",
)
MASKS = FolderKind(
    "motion_masks",
    (".png",),
    "save a mask for each frame, non-zero = moving (all black is allowed), as motion_masks/000.png, ...",
)
FLOW = FolderKind(
    "flow",
    (".npz",),
    "compute optical flow between neighbouring frames with any network and save the keys flow (h, w, 2) and "
    "mask (h, w) as flow/000_fwd.npz, 001_bwd.npz, ...",
)
LABELS = FolderKind(
    "SegmentationClass_train",
    (".png",),
    "save the label colours of the frame as 000.png, ... or take it out of labelled_frames",
)
TRUTH_RGB = FolderKind(
    "multiview_GT", IMAGE_SUFFIXES, "add it (names are 1-based: 00000001/cam01.jpg) or remove the folder multiview_GT"
)
TRUTH_LABELS = FolderKind(
    "multiview_GT_semantic",
    (".png",),
    "add it (names are 1-based: 00000001/cam01.png) or remove the folder multiview_GT_semantic",
)
SCENE_ENTRIES = (
    "poses_bounds.npy",
    DISPARITY.name,
    MASKS.name,
    FLOW.name,
    LABELS.name,
    TRUTH_RGB.name,
    TRUTH_LABELS.name,
)


@dataclass(frozen=True)
class ScenePaths:
    """The folders in which a scene is looked for.

    Attributes:
        scene: <dir>/<Scene>.
        label_roots: the roots of labels, the first that holds a file wins.
        name: folder name of the scene.
    """

    scene: Path
    label_roots: tuple[Path, ...]
    name: str

    def labelled(self, kind: FolderKind) -> Path | None:
        """The folder `kind` of the scene under the first label root that has it, or None."""
        found = [root / self.name / kind.name for root in self.label_roots if (root / self.name / kind.name).is_dir()]
        return found[0] if found else None

    def root_file(self, name: str) -> Path:
        """A file beside the scenes under the first label root that has it, else where it is expected."""
        found = [root / name for root in self.label_roots if (root / name).is_file()]
        return found[0] if found else self.label_roots[0] / name


def scene_paths(config: DataConfig, name: str) -> ScenePaths:
    """Paths of scene `name`; raises BrokenFile where a root or the scene's folder is missing."""
    roots = (Path(config.labels_dir), Path(config.dir)) if config.labels_dir else (Path(config.dir),)
    dir_key = "data.dir (on the command line: --data_dir)"
    labels_key = "data.labels_dir (on the command line: --data.labels_dir, of a trained run: --labels_dir)"
    for root, key in ((Path(config.dir), dir_key), *(((roots[0], labels_key),) if config.labels_dir else ())):
        if not root.is_dir():
            raise BrokenFile(root, "no such folder", f"set {key} to the folder that holds one folder per scene")
        if not name or not (root / name).is_dir():
            raise BrokenFile(
                root / name,
                "no such scene folder",
                f"name one of: {', '.join(scene_names(root)) or 'none found'}; or set {key} to another root",
            )
    return ScenePaths(Path(config.dir) / name, roots, name)


def is_scene(folder: Path) -> bool:
    """Whether `folder` holds anything that belongs to a scene."""
    return any(IMAGES_FOLDER.fullmatch(entry.name) or entry.name in SCENE_ENTRIES for entry in folder.iterdir())


def scene_names(root: Path) -> list[str]:
    """Names of the scene folders in `root`, sorted."""
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and is_scene(entry))


def list_folder(folder: Path, kind: FolderKind) -> dict[str, Path]:
    """Files of a folder by stem, in the order of time: by number where all names are numbers, else by name.

    Raises:
        BrokenFile: no folder, or two files with one stem.
    """
    if not folder.is_dir():
        raise BrokenFile(folder, "no such folder", kind.remedy)
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in kind.suffixes:
            continue
        if path.stem in files:
            raise BrokenFile(path, f"has the same name as {files[path.stem].name}", "keep one of the two")
        files[path.stem] = path
    if all(stem.isdecimal() for stem in files):  # 2 comes before 10
        return dict(sorted(files.items(), key=lambda item: (int(item[0]), item[0])))
    return files


def file_of(files: dict[str, Path], folder: Path, kind: FolderKind, stem: str) -> Path:
    """The file `stem` of a listed folder; raises BrokenFile where it is missing."""
    if stem not in files:
        raise BrokenFile(folder / f"{stem}{kind.suffixes[0]}", "no such file", kind.remedy)
    return files[stem]


@dataclass(frozen=True)
class FrameFiles:
    """The frames of a scene.

    Attributes:
        folder: images_K, or images where images_K is missing.
        stems: T names without ending; the index of a frame is its position.
        files: the files of `folder` by stem.
        reduce: factor by which the images of `folder` must be reduced (1 for images_K).
    """

    folder: Path
    stems: tuple[str, ...]
    files: dict[str, Path]
    reduce: int


def find_frames(paths: ScenePaths, factor: int) -> FrameFiles:
    """Frames of a scene at `factor`: images_K where present, else images to be reduced in memory.

    Raises:
        BrokenFile: no images, fewer than two, an image of a kind that is not read, or one name twice.
    """
    full, reduced = paths.scene / "images", paths.scene / f"images_{factor}"
    use_reduced = factor > 1 and reduced.is_dir()
    folder = reduced if use_reduced else full
    files = list_folder(folder, IMAGES)
    named = (list_folder(full, IMAGES) if full.is_dir() else {}) or files
    source = full if full.is_dir() else folder
    for path in source.iterdir():
        if path.suffix.lower() in UNREAD_IMAGE_SUFFIXES:
            raise BrokenFile(path, "frames of this kind are not read", "convert it to png or jpg")
    if len(named) < 2:
        raise BrokenFile(
            source, f"holds {len(named)} frame(s)", "a dynamic scene needs at least 2 frames; " + IMAGES.remedy
        )
    return FrameFiles(folder, tuple(named), files, 1 if use_reduced else factor)
