"""A distilled run's pairs of views made again: which weight CCD gave to each, and what the teacher said of it.

Views come from named streams and the teacher is frozen, so any step of a run can be had again from the teacher alone,
without its student. On a CPU with one thread the weights are those of training, bit for bit.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from kdlab.augment.fired import fired
from kdlab.lab.damage import Damaged
from kdlab.lab.keys import steps, teacher_key
from kdlab.lab.networks import splits_of, teacher_network
from kdlab.lab.store import Store
from kdlab.losses.ccd import CCD, first_views
from kdlab.registry import create
from kdlab.spec import RunSpec
from kdlab.training.images import view_stages
from kdlab.training.layout import Layout
from kdlab.training.runtime import one_thread
from kdlab.training.views import Views


class Replay:
    """The steps of a run that sees a first and a second view of each original.

    Args:
        spec: of the run, with two views and every second one augmented; the run itself need not exist.
        store: with its teacher; None takes the default store.

    Raises:
        SpecError: when the teacher cannot be loaded.
    """

    def __init__(self, spec: RunSpec, store: Store | None = None):
        splits, self.spec, self.key = splits_of(spec), spec, teacher_key(spec.teacher)
        self.classes = tuple(splits.train.classes)
        store = store or Store()
        try:
            teacher = teacher_network(spec.teacher, self.key, splits, store)
        except Damaged as error:  # so that the next `lab.run` trains it again
            store.set_aside(error)
            raise
        self.views = Views(
            splits.train.subset(spec.fraction, spec.seed), spec.seed, spec.replicate, spec.budget.originals_per_step,
            {self.key: teacher}, precision=spec.teacher_precision, role=spec.streams,
        )  # fmt: skip
        self.layout = Layout.of(spec)
        self.part = create("augment", spec.augmentation, **spec.augmentation_options)
        stages = view_stages(self.part, spec.augmentation, 1)
        self.stream = next(stream for part, stream in stages if part is self.part)

    def pairs(self, count: int) -> pd.DataFrame:
        """The first pairs of the run, one row each, in the order of training.

        Args:
            count: about how many; whole steps are taken, and no more than the run has.

        Returns:
            ``step``, ``origin`` (row within the step), ``label``, ``weight`` and ``centred`` (CCD's weight from raw and
            from centred logits), ``first`` and ``second`` (the teacher's first choice on each view), and ``operations``
            (names of those that changed the second view).
        """
        wanted = min(steps(self.spec), math.ceil(count / self.views.originals))
        with one_thread():
            return pd.concat([self._step(number) for number in range(wanted)], ignore_index=True)

    def _step(self, number: int) -> pd.DataFrame:
        self.views.at(number)
        batch = self.views.batch(self.layout, 0.0)
        theirs = self.views.teacher_outputs(self.key, self.layout, self.spec.teacher_view, maps=False)
        second = (batch.view == 1).nonzero()[:, 0]
        first, choice, origin = first_views(batch)[second], theirs.logits.argmax(1), batch.origin[second]
        weights = {name: CCD(centred=name == "centred").weights(theirs, batch) for name in ("weight", "centred")}
        names = fired(self.part, self.views.draw_params(self.part, self.stream), self.spec.augmentation)
        columns = {
            "origin": origin, "label": batch.label[second], "first": choice[first], "second": choice[second],
            **{name: values[second].double() for name, values in weights.items()},
        }  # fmt: skip
        made = pd.DataFrame({name: values.numpy() for name, values in columns.items()})
        return made.assign(step=number, operations=[names[row] for row in made["origin"]])

    def images(self, step: int, origin: int, side: int = 48) -> np.ndarray:
        """Both views of a pair as the networks saw them, uint8 (2, C, H, W).

        Args:
            step: of the run.
            origin: row of the original within the step.
            side: images with longer sides are averaged down to squares of it.
        """
        self.views.at(step)
        batch, train = self.views.batch(self.layout, 0.0), self.views.train
        rows = torch.cat([((batch.view == view) & (batch.origin == origin)).nonzero()[:, 0] for view in (0, 1)])
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (train.mean, train.std))
        x = 255 * (batch.x[rows] * std + mean)
        if max(x.shape[-2:]) > side:
            x = F.adaptive_avg_pool2d(x, side)
        return x.round().clamp(0, 255).to(torch.uint8).numpy()
