"""A tiny scene with truth of every view, and renderers of known quality."""

import torch
from torch.nn import functional

from semflow.geometry.cameras import Cameras
from semflow.records import LabelMap, MultiViewTruth, SceneData, View

FRAMES, HEIGHT, WIDTH = 4, 12, 16
NAMES = ("wall", "ball", "floor", "bird")  # the ball is the only foreground class that is ever seen
BALL = 1


def true_labels(time: int, camera: int) -> torch.Tensor:
    """(H, W): floor below, wall above, and a ball that moves with time and with the camera."""
    labels = torch.zeros(HEIGHT, WIDTH, dtype=torch.int64)
    labels[8:] = 2
    left = 1 + 2 * time + camera
    labels[4:8, left : left + 4] = BALL
    return labels


def true_rgb(time: int, camera: int) -> torch.Tensor:
    """(H, W, 3): a colour per class, and a shade that changes with time and camera."""
    palette = torch.tensor([[0.2, 0.3, 0.4], [0.9, 0.1, 0.1], [0.1, 0.6, 0.2], [0.0, 0.0, 0.0]])
    return palette[true_labels(time, camera)] + 0.02 * time + 0.01 * camera


def make_scene(name="toy", labelled=range(FRAMES), views=True, label_views=True, foreground=(BALL, 3)) -> SceneData:
    """The scene as training saw it: labels of the frames `labelled` only."""
    labels = frame_labels()
    labels[[t for t in range(FRAMES) if t not in labelled]] = -1
    maps, flow = torch.zeros(FRAMES, HEIGHT, WIDTH), torch.zeros(FRAMES, HEIGHT, WIDTH, 2)
    near = torch.ones(FRAMES)
    colors = torch.tensor([[0, 0, 255], [255, 0, 0], [0, 255, 0], [9, 9, 9]], dtype=torch.uint8)
    truth = MultiViewTruth(FRAMES, FRAMES, true_rgb, true_labels if label_views else None)
    return SceneData(
        name=name,
        rgb=torch.stack([true_rgb(t, t) for t in range(FRAMES)]),
        cameras=Cameras(torch.eye(4)[:3].expand(FRAMES, 3, 4), 10.0, HEIGHT, WIDTH, near, 2 * near),
        space=None,
        disparity=maps,
        motion=maps.bool(),
        flow_forward=flow,
        flow_forward_valid=maps.bool(),
        flow_backward=flow,
        flow_backward_valid=maps.bool(),
        labels=labels,
        label_map=LabelMap(NAMES, colors, foreground),
        truth=truth if views else None,
    )


def frame_labels() -> torch.Tensor:
    """(T, H, W) true labels of the training cameras' own frames."""
    return torch.stack([true_labels(t, t) for t in range(FRAMES)])


class PerfectRenderer:
    """Renders the truth of the time `shift` frames later; keeps what it was asked for."""

    def __init__(self, shift: int = 0):
        self.shift = shift
        self.asked = []

    def render(self, scene, cameras, camera, time, what):
        assert isinstance(time, float) and isinstance(what, frozenset)
        self.asked.append((scene, camera, time))
        shown = min(int(time) + self.shift, FRAMES - 1)
        logits = functional.one_hot(true_labels(shown, camera), len(NAMES)).float()
        return View(rgb=true_rgb(shown, camera), logits=logits, flow=torch.ones(HEIGHT, WIDTH, 2))


class SeenFramesRenderer(PerfectRenderer):
    """Perfect but for the label of the images in `wrong`, which are all wall."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong = set(wrong)

    def render(self, scene, cameras, camera, time, what):
        view = super().render(scene, cameras, camera, time, what)
        if (int(time), camera) not in self.wrong:
            return view
        return View(rgb=view.rgb, logits=torch.eye(len(NAMES))[0].expand(HEIGHT, WIDTH, -1))
