"""Networks and methods put together on two images before anything trains, so that what does not fit is said now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from kdlab import data
from kdlab.errors import SpecError
from kdlab.losses.base import Context
from kdlab.models import build, outputs
from kdlab.models.trial import images, trial
from kdlab.registry import create, find, needs, preparations
from kdlab.rng import generator
from kdlab.spec import RunSpec


def rehearse(specs: Iterable[RunSpec]) -> None:
    """Build what each spec needs once and set its method up, as at the start of training but on noise.

    Methods that look at the training set in their ``setup``, and foreign ones that may, are left out.

    Raises:
        SpecError: from the part that does not fit.
    """
    stage = Rehearsal()
    for spec in specs:
        stage.rehearse(spec)


class Rehearsal:
    """Networks by name and options, and what has been tried with them."""

    def __init__(self):
        self.networks: dict[tuple, nn.Module] = {}
        self.done: dict[tuple, dict[str, Tensor] | None] = {}

    def rehearse(self, spec: RunSpec) -> dict[str, Tensor] | None:
        """Try a spec.

        Returns:
            The weights of its method, which a student of a prepared teacher reads; None where it was left out.
        """
        of, asked = (data.facts(spec.data)["classes"], data.shape(spec.data)), _names(spec)
        if (*of, *asked) not in self.done:
            self.done[*of, *asked] = self._set_up(spec, *of)
        return self.done[*of, *asked]

    def _network(self, name: str, options: dict[str, Any], classes: int, shape: tuple[int, int, int]) -> nn.Module:
        asked = name, repr(options), classes, shape
        if asked not in self.networks:
            trial(name, options, classes, shape, learns=False)
            self.networks[asked] = build(name, classes, shape[0], seed=0, **options).eval()
        return self.networks[asked]

    @torch.no_grad()
    def _set_up(self, spec: RunSpec, classes: int, shape: tuple[int, int, int]) -> dict[str, Tensor] | None:
        x, teacher = images(shape), None
        student = self._network(spec.model, spec.model_options, classes, shape)
        prepared = None
        if isinstance(spec.teacher, RunSpec):
            teacher = self._network(spec.teacher.model, spec.teacher.model_options, classes, shape)
            prepared = self.rehearse(spec.teacher) if spec.teacher.method in preparations() else None
        elif spec.teacher is not None:
            teacher = self._network(spec.teacher.arch, dict(spec.teacher.options), classes, shape)
        method = find("losses", spec.method)
        if ":" in spec.method or "dataset" in needs(method, spec.method_options):
            return None
        made = create("losses", spec.method, **spec.method_options)
        rows = data.train_size(spec.data, spec.sizes, spec.fraction)
        context = Context(
            classes, rows, generator(0, "method"), 0, torch.arange(rows) % classes, student, teacher, None, prepared
        )
        try:
            with torch.random.fork_rng(devices=[]):
                made.setup(outputs(student, x), None if teacher is None else outputs(teacher, x), context)
        except SpecError:
            raise
        except Exception as error:
            raise SpecError(
                f"method {spec.method!r} cannot be set up for {' and '.join(filter(None, _names(spec)[2:]))} on images "
                f"of {' x '.join(map(str, shape))}: {type(error).__name__}: {error}"
            ) from error
        return made.state_dict()


def _names(spec: RunSpec) -> tuple[str, ...]:
    """What a rehearsal depends on besides the data: method, and networks with their options."""
    first = spec.teacher
    taught = () if first is None else _names(first) if isinstance(first, RunSpec) else (first.arch, repr(first.options))
    return spec.method, repr(spec.method_options), spec.model, repr(spec.model_options), *taught
