"""The work of a stage's steps up to the update: rays, rendering, losses, gradients and figures."""

from __future__ import annotations

from collections.abc import Iterator
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
from semflow.utils.ranks import average_gradients, mean_over_ranks, own_rows, ranks, sum_over_ranks


@dataclass(frozen=True)
class Figures:
    """What a step reports.

    Attributes:
        names: of the loss terms. values: (3 + terms,) float32: loss, PSNR and mIoU on the rays of the step, the terms.
            PSNR and mIoU are NaN where no colours are trained yet.
    """

    names: tuple[str, ...]
    values: Tensor

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
        self.share, self.clip_norm = 1.0 / (len(scenes) * config.train.accumulate), config.train.clip_norm
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

    def clip_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """The gradients of all ranks, ready for the update."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm)

    def add_gradients(self, scene: int, frame: int, source: int, generator: torch.Generator) -> Figures:
        """Render rays of a frame of a scene, with the image features of the frame `source`, and add the gradients."""
        batch = self.samplers[scene].of_frame(frame, source, generator)
        context, place = self.contexts[scene].around(frame, source, self.renderer.reach)
        batch = replace(batch, frame=place, source=context.frames)
        arguments = context, batch, self.renderer.draw(context.frames, batch, generator)
        if self.replays is None:
            return Figures(self.names, self.backward(*arguments))
        return Figures(self.names, self.replays.run(self.backward, *arguments))

    def backward(self, context: SceneContext, batch: RayBatch, draws: Draws) -> Tensor:
        """Add the gradients of a batch; its figures (3 + terms,)."""
        share, figures = self.judge(context, batch, draws)
        share.backward()
        return figures

    def judge(self, context: SceneContext, batch: RayBatch, draws: Draws) -> tuple[Tensor, Tensor]:
        """The share () of a batch in the loss of its step, and its figures (3 + terms,)."""
        outputs = self.renderer.render(context, batch, draws)
        total, terms = self.losses(outputs, batch, context, self.model)
        loss, *values = mean_over_ranks([total, *terms.values()])
        figures = [loss, *self.quality(outputs, batch), *values]
        return self.share * total, torch.stack([figure.detach().float() for figure in figures])

    @torch.no_grad()
    def quality(self, outputs: RenderOutputs, batch: RayBatch) -> tuple[Tensor, Tensor]:
        """PSNR and mIoU on the rays of all ranks, of the blended rendering, or of the static one in a static stage."""
        if not self.stage.shows_colours:
            unknown = torch.full((), torch.nan, device=batch.rgb.device)
            return unknown, unknown
        view = outputs.full or outputs.static_view or outputs.dynamic_view
        own = batch.select(own_rows())
        psnr = -10.0 * torch.log10(sum_over_ranks((view.rgb - own.rgb).square().sum()) / batch.rgb.numel())
        confusion = count_pairs(own.labels, view.logits.argmax(-1), view.logits.shape[-1])
        return psnr, class_iou(sum_over_ranks(confusion)).nanmean()
