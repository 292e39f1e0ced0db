"""Structure from motion by pycolmap, run as a program of its own: pycolmap and OpenCV crash in one process.

    python colmap_process.py request.json

The request names what to do (see `structure.py`, which writes it); the answer is an .npz file of plain arrays. Nothing of semflow
is imported here.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pycolmap

SEED = 0
MAX_ERROR, MIN_TRACK = 2.0, 3  # pixels of error and frames of a point that counts
NEIGHBOURS_ONLY = 60  # frames from which not every pair is matched
PINHOLES = {  # of every model that can be undistorted: where fx, fy, cx, cy, k1, k2, p1, p2 stand among its parameters
    "SIMPLE_PINHOLE": (0, 0, 1, 2), "PINHOLE": (0, 1, 2, 3), "SIMPLE_RADIAL": (0, 0, 1, 2, 3), "RADIAL": (0, 0, 1, 2, 3, 4),
    "OPENCV": (0, 1, 2, 3, 4, 5, 6, 7)}


def reconstruct(request: dict) -> pycolmap.Reconstruction:
    """Cameras and points of a folder of images that one camera took; the largest model, if there are several."""
    images, work = Path(request["images"]), Path(request["work"])
    database = work / "database.db"
    reader = pycolmap.ImageReaderOptions(camera_model=request["camera_model"])
    if request["camera_params"]:
        reader.camera_params = ",".join(str(value) for value in request["camera_params"])
    if request["masks"]:
        reader.mask_path = request["masks"]
    pycolmap.extract_features(database, images, camera_mode=pycolmap.CameraMode.SINGLE, reader_options=reader)
    match = pycolmap.match_exhaustive if len(list(images.iterdir())) < NEIGHBOURS_ONLY else pycolmap.match_sequential
    match(database, verification_options=pycolmap.TwoViewGeometryOptions(ransac={"random_seed": SEED}))
    options = pycolmap.IncrementalPipelineOptions(
        random_seed=SEED, mapper={"random_seed": SEED}, triangulation={"random_seed": SEED},
        ba_refine_focal_length=request["refine_focal"])
    options.mapper.abs_pose_refine_focal_length = request["refine_focal"]
    models = pycolmap.incremental_mapping(database, images, work / "sparse", options)
    if not models:
        raise SystemExit("no two frames could be placed")
    return max(models.values(), key=lambda model: model.num_reg_images())


def arrays_of(model: pycolmap.Reconstruction) -> dict[str, np.ndarray]:
    """A reconstruction as arrays: images by name, in the order of their names."""
    images = sorted((image for image in model.images.values() if image.has_pose), key=lambda image: image.name)
    cameras = [model.cameras[image.camera_id] for image in images]
    for camera in cameras:
        if camera.model_name not in PINHOLES:
            raise SystemExit(f"camera model {camera.model_name} is none of {', '.join(PINHOLES)}")
    sound = {key: point.xyz for key, point in model.points3D.items()
             if point.error < MAX_ERROR and point.track.length() >= MIN_TRACK}
    number = {key: index for index, key in enumerate(sound)}
    seen = [(frame, number[point.point3D_id]) for frame, image in enumerate(images)
            for point in image.points2D if point.has_point3D() and point.point3D_id in number]
    intrinsics = np.zeros((len(cameras), 8))
    for row, camera in zip(intrinsics, cameras):
        row[: len(PINHOLES[camera.model_name])] = camera.params[list(PINHOLES[camera.model_name])]
    return {
        "names": np.array([image.name for image in images]),
        "w2c": np.stack([image.cam_from_world().matrix() for image in images]),
        "intrinsics": intrinsics,
        "sizes": np.array([(camera.height, camera.width) for camera in cameras]),
        "points": np.array(list(sound.values())).reshape(-1, 3),
        "seen": np.array(seen, dtype=np.int64).reshape(-1, 2),
    }


def main() -> None:
    """Do what the request says."""
    request = json.loads(Path(sys.argv[1]).read_text())
    pycolmap.set_random_seed(SEED)
    model = pycolmap.Reconstruction(request["model"]) if request["model"] else reconstruct(request)
    np.savez(request["answer"], **arrays_of(model))


if __name__ == "__main__":
    main()
