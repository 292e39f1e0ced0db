"""The work of a stage's steps up to the update: rays, rendering, losses, gradients and figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from semflow.config.schema import Config
from semflow.engine.replays import CudaGraphs, Replays
from semflow.engine.scenes import TrainingScene
from semflow.engine.stages import Stage, build_losses, build_renderer, build_samplers
from semflow.metrics.segmentation import class_iou, count_pairs
from semflow.models.scene_context import SceneContext
from semflow.models.semantic_flow import SemanticFlow
from semflow.records import RayBatch, RenderOutputs
from semflow.rendering.renderer import Draws
from semflow.utils.ranks import average_gradients, own_rows, ranks


@dataclass(frozen=True)
class Figures:
    """What a step reports.

    Attributes:
        names: of the loss terms. values: (3 + terms,) float32: loss, PSNR and mIoU on the rays of the step, the terms.
            PSNR and mIoU are NaN where no colours are trained yet.
    """

    names: tuple[str, ...]
    values: Tensor

    @classmethod
    def of_step(cls, names: tuple[str, ...], batches: Tensor) -> Figures:
        """Means of (B, 3 + terms) figures of batches; PSNR and mIoU of those that have them: one may hold no labels."""
        means = batches.mean(0)
        return cls(names, torch.cat([means[:1], batches[:, 1:3].nanmean(0), means[3:]]))

    @property
    def loss(self) -> Tensor:
        """() weighted sum of the terms."""
        return self.values[0]

    @property
    def psnr(self) -> Tensor:
        """() in dB."""
        return self.values[1]

    @property
    def miou(self) -> Tensor:
        """() mean over the classes on the rays."""
        return self.values[2]

    @property
    def terms(self) -> dict[str, Tensor]:
        """() each."""
        return dict(zip(self.names, self.values[3:].unbind()))


class StageWork:
    """What the steps of a stage do before their update.

    Args:
        stage, config: what is trained, and how. model: the networks.
        scenes, contexts: what is trained on, and how the model sees it.
    """

    def __init__(self, stage: Stage, config: Config, model: SemanticFlow, scenes: list[TrainingScene],
                 contexts: list[SceneContext]):
        self.stage, self.model, self.contexts = stage, model, contexts
        self.losses = build_losses(stage)
        self.renderer = build_renderer(stage, self.losses, model, config.render.flow_density_prior)
        self.samplers = build_samplers(stage, scenes)
        self.share, self.clip_norm = 1.0 / (len(scenes) * config.train.accumulate), config.train.clip_norm or math.inf
        self.names = tuple(term.name for term in self.losses.terms)
        device = next(model.parameters()).device
        self.graphs = CudaGraphs(device) if config.train.cuda_graphs and device.type == "cuda" and ranks() == 1 else None
        self.replays = Replays(self.graphs) if self.graphs is not None else None

    @contextmanager
    def on_its_stream(self) -> Iterator[None]:
        """Where all work of the stage must be queued if it is to be recorded: a stream of its own, on a GPU."""
        if self.graphs is None:
            yield
            return
        outside = torch.cuda.current_stream(self.graphs.stream.device)
        self.graphs.stream.wait_stream(outside)
        try:
            with torch.cuda.stream(self.graphs.stream):
                yield
        finally:
            outside.wait_stream(self.graphs.stream)

    def clear_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """Start a step. What is recorded adds to the same gradients again and again: they are zero, not gone."""
        optimizer.zero_grad(set_to_none=self.graphs is None)
        for group in optimizer.param_groups if self.graphs is not None else ():
            for parameter in group["params"]:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)

    def combine(self, optimizer: torch.optim.Optimizer, found: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The gradients of all ranks, clipped and ready for the update, and what the step reports.

        Args:
            found: what `add_gradients` found, for each of B batches.

        Returns:
            (B, 3 + terms) figures, see `Figures`, and the norm () of the whole gradient before it was clipped.
        """
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        means = average_gradients(parameters, torch.stack(list(found)))
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        return self.figures(means), norm

    @torch.no_grad()
    def figures(self, means: Tensor) -> Tensor:
        """(B, 3 + terms) figures of batches, from the means over the ranks of what they found."""
        losses = 1 + len(self.names)
        loss, terms, seen = means[:, :1], means[:, 1:losses], means[:, losses:]
        if not self.stage.shows_colours:
            unknown = torch.full_like(loss, torch.nan)
            return torch.cat([loss, unknown, unknown, terms], dim=1)
        classes = math.isqrt(seen.shape[1] - 1)
        iou = class_iou(seen[:, 1:].unflatten(1, (classes, classes)))
        return torch.cat([loss, -10.0 * torch.log10(seen[:, :1]), iou.nanmean(1, keepdim=True).float(), terms], dim=1)

    def add_gradients(self, scene: int, frame: int, source: int, generator: torch.Generator) -> Tensor:
        """Render rays of a frame of a scene, with the image features of the frame `source`, and add the gradients.

        Returns:
            What this rank found, for `combine`.
        """
        batch = self.samplers[scene].of_frame(frame, source, generator)
        context, place = self.contexts[scene].around(frame, source, self.renderer.reach)
        batch = replace(batch, frame=place, source=context.frames)
        arguments = context, batch, self.renderer.draw(context.frames, batch, generator)
        return self.backward(*arguments) if self.replays is None else self.replays.run(self.backward, *arguments)

    def backward(self, context: SceneContext, batch: RayBatch, draws: Draws) -> Tensor:
        """Add the gradients of a batch; what this rank found."""
        share, found = self.judge(context, batch, draws)
        share.backward()
        return found

    def judge(self, context: SceneContext, batch: RayBatch, draws: Draws) -> tuple[Tensor, Tensor]:
        """The share () of a batch in the loss of its step, and what this rank found: loss, terms, and what it has seen."""
        outputs = self.renderer.render(context, batch, draws)
        total, terms = self.losses(outputs, batch, context, self.model)
        losses = torch.stack([value.detach().float() for value in (total, *terms.values())])
        return self.share * total, torch.cat([losses, self.seen(outputs, batch)])

    @torch.no_grad()
    def seen(self, outputs: RenderOutputs, batch: RayBatch) -> Tensor:
        """(1 + K * K,) squared error and confusion matrix of the blended rendering, or of the static one in a static stage.

        Their means over the ranks are those of all ranks' rays, the matrix up to a factor. Empty without colours.
        """
        if not self.stage.shows_colours:
            return batch.rgb.new_zeros(0)
        view = outputs.full or outputs.static_view or outputs.dynamic_view
        own = batch.select(own_rows())
        error = (view.rgb - own.rgb).square().sum() * (ranks() / batch.rgb.numel())
        confusion = count_pairs(own.labels, view.logits.argmax(-1), view.logits.shape[-1])
        return torch.cat([error[None], confusion.flatten().to(error.dtype)])
