"""The label metrics against a second implementation, written on scikit-learn: 1e-9, with every kind of odd class."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluation_fakes import HEIGHT, WIDTH, make_scene, true_rgb
from sklearn.metrics import confusion_matrix, jaccard_score
from torch.nn import functional

from semflow.engine.evaluator import evaluate
from semflow.engine.protocols import PROTOCOLS
from semflow.engine.scores import score_labels
from semflow.records import LabelMap, MultiViewTruth, View

CLASSES = ("wall", "ball", "floor", "bird", "ghost", "nowhere")  # the truth lacks the ghost, everything lacks the last
SEEN, PREDICTED = (-1, 0, 1, 2, 3), (0, 1, 2, 4)  # -1 = ignored; 3 is never found, 4 is stray
TOLERANCE = {"rel": 0, "abs": 1e-9}


def label_map(foreground) -> LabelMap:
    return LabelMap(CLASSES, torch.arange(18, dtype=torch.uint8).view(6, 3), foreground)


def random_map(generator, classes) -> torch.Tensor:
    """(H, W) labels drawn from `classes`."""
    return torch.tensor(classes)[torch.randint(len(classes), (HEIGHT, WIDTH), generator=generator)]


def merged(labels: np.ndarray, foreground) -> np.ndarray:
    background = min(set(range(len(CLASSES))) - set(foreground))
    return np.array([i if i in foreground else background for i in labels.tolist()], dtype=int)


def judge(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Mean IoU, total and class-average accuracy of pixels (n,)."""
    present = sorted({*truth.tolist(), *prediction.tolist()})
    matrix = confusion_matrix(truth, prediction, labels=present)
    rows = matrix.sum(axis=1)
    return {
        "miou": jaccard_score(truth, prediction, labels=present, average="macro"),
        "accuracy": np.trace(matrix) / matrix.sum(),
        "class_accuracy": np.mean([matrix[i, i] / rows[i] for i in range(len(present)) if rows[i]]),
    }


def expected(truth: torch.Tensor, prediction: torch.Tensor, foreground) -> dict[str, float]:
    """All metrics of label maps of one shape, of all classes and with the background merged."""
    counted = (truth >= 0).numpy()
    maps = [ids.numpy()[counted] for ids in (truth, prediction)]
    only = judge(*(merged(ids, foreground) for ids in maps))
    return judge(*maps) | {f"{key}_foreground": value for key, value in only.items()}


@pytest.mark.parametrize("foreground", [(1, 3), (1, 4), (0, 2, 5), (), tuple(range(5))])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.filterwarnings("ignore:A single label")  # all is background
def test_images_agree(seed, foreground):
    """Where nothing is labelled, even ids outside the label map may be predicted: such pixels never count."""
    generator = torch.Generator().manual_seed(seed)
    truth, prediction = random_map(generator, SEEN), random_map(generator, PREDICTED)
    found = score_labels(
        torch.where(truth < 0, 99, prediction), truth, label_map(foreground), PROTOCOLS["paper"]
    ).metrics
    for key, value in expected(truth, prediction, foreground).items():
        assert found[key] == pytest.approx(value, **TOLERANCE), key


@pytest.mark.parametrize("which", [0, 1])
def test_ids_outside_the_label_map_are_refused_where_they_would_count(which):
    maps = [torch.zeros(12, 12, dtype=torch.int64) for _ in range(2)]
    maps[which][3, 3] = len(CLASSES)
    with pytest.raises(ValueError, match="class ids 0 to 6, allowed 0 to 5"):
        score_labels(*maps, label_map((1,)), PROTOCOLS["paper"])


class Drawn:
    """Two scenes of other sizes and foregrounds, and a renderer, all of random label maps."""

    foregrounds = {"one": (1, 3), "other": (2, 4)}

    def __init__(self):
        generator = torch.Generator().manual_seed(11)
        self.sizes = {"one": (4, 4), "other": (2, 3)}  # times, cameras
        pairs = [(name, t, c) for name, (times, cameras) in self.sizes.items() for t in range(times) for c in range(cameras)]
        seen = {"one": SEEN, "other": (-1, 0, 2, 2, 2)}
        self.truth = {pair: random_map(generator, seen[pair[0]]) for pair in pairs}
        self.predicted = {pair: random_map(generator, PREDICTED) for pair in pairs}
        self.predicted |= {("other", 1, c): self.truth["other", 1, c].clamp(min=0) for c in range(3)}
        self.truth["one", 2, 1] = torch.full((HEIGHT, WIDTH), -1)  # left out

    def scenes(self):
        for name, (times, cameras) in self.sizes.items():
            truth = MultiViewTruth(cameras, times, true_rgb, lambda t, c, name=name: self.truth[name, t, c])
            yield replace(make_scene(name), label_map=label_map(self.foregrounds[name]), truth=truth)

    def render(self, scene, cameras, camera, time, what):
        labels = self.predicted[scene, int(time), camera]
        return View(rgb=true_rgb(int(time), camera), logits=functional.one_hot(labels, len(CLASSES)).float())

    def pixels(self, name, other_cameras_only=False):
        """Labelled pixels (n,) of all images of a scene: truth, prediction; an entry per image."""
        pairs = [pair for pair in self.truth if pair[0] == name and (pair[1] != pair[2] or not other_cameras_only)]
        pairs = [pair for pair in pairs if (self.truth[pair] >= 0).any()]
        return [(self.truth[pair], self.predicted[pair]) for pair in pairs]


@pytest.fixture(scope="module")
def drawn():
    return Drawn()


def test_paper_averages_over_images_then_over_scenes(drawn, tmp_path):
    result = evaluate(drawn, list(drawn.scenes()), tmp_path, PROTOCOLS["paper"], progress=False)
    images = {
        name: [expected(*maps, foreground) for maps in drawn.pixels(name)] for name, foreground in drawn.foregrounds.items()
    }
    assert [len(found) for found in images.values()] == [15, 6]
    for key in images["one"][0]:
        scene_means = [np.mean([image[key] for image in found]) for found in images.values()]
        assert result.headline[key] == pytest.approx(np.mean(scene_means), **TOLERANCE), key
        assert result.intervals["all"]["ours"][key].mean == pytest.approx(np.mean(scene_means), **TOLERANCE)
        pooled = np.mean([image[key] for found in images.values() for image in found])
        assert abs(result.headline[key] - pooled) > 1e-3, "the order of averaging would not be seen"
        for scene, value in zip(result.scenes, scene_means):
            assert scene.groups["all"].ours.metrics[key] == pytest.approx(value, **TOLERANCE)


def test_scene_and_class_figures_come_from_all_pixels_of_a_scene(drawn, tmp_path):
    result = evaluate(drawn, list(drawn.scenes()), tmp_path, PROTOCOLS["corrected"], progress=False)
    means = {"scene_miou": [], "scene_miou_foreground": [], "scene_miou_foreground_classes": []}
    for scene in result.scenes:
        foreground, maps = drawn.foregrounds[scene.scene.name], drawn.pixels(scene.scene.name, other_cameras_only=True)
        truth, prediction = (torch.stack(part) for part in zip(*maps))
        whole = expected(truth, prediction, foreground)
        counted = (truth >= 0).numpy()
        true, predicted = truth.numpy()[counted], prediction.numpy()[counted]
        present = sorted({*true.tolist(), *predicted.tolist()})
        iou = dict(zip(present, jaccard_score(true, predicted, labels=present, average=None)))
        means["scene_miou"].append(whole["miou"])
        means["scene_miou_foreground"].append(whole["miou_foreground"])
        means["scene_miou_foreground_classes"].append(np.mean([iou[i] for i in foreground if i in present]))
        check_classes(scene.groups["held_out"].ours.classes, iou, maps, confusion_matrix(true, predicted, labels=range(6)))
    for key, values in means.items():
        assert result.headline[key] == pytest.approx(np.mean(values), **TOLERANCE), key


def check_classes(classes, iou, maps, matrix):
    """Of every class of a scene: IoU, accuracy and the images that show it."""
    assert list(classes) == list(CLASSES)
    for identity, score in enumerate(classes.values()):
        shown = matrix[identity].sum()
        accuracy = matrix[identity, identity] / shown if shown else None
        assert score.images == sum(bool((truth == identity).any()) for truth, _ in maps)
        assert score.accuracy == (None if accuracy is None else pytest.approx(accuracy, **TOLERANCE))
        assert score.iou == (pytest.approx(iou[identity], **TOLERANCE) if identity in iou else None)
