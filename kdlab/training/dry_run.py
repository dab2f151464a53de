"""Every network and method of a plan built and set up on two images before anything trains, to fail early."""

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


def dry_run(specs: Iterable[RunSpec]) -> None:
    """Build the networks of each spec and set its method up, as at the start of training but on noise.

    Methods that look at the training set in their ``setup``, and foreign ones that may, are left out.

    Raises:
        SpecError: from the part that does not fit.
    """
    run = DryRun()
    for spec in specs:
        run.method_weights(spec)


class DryRun:
    """Networks and methods set up so far: specs that differ in neither are tried once."""

    def __init__(self):
        self.networks: dict[tuple, nn.Module] = {}
        self.weights: dict[tuple, dict[str, Tensor] | None] = {}

    def method_weights(self, spec: RunSpec) -> dict[str, Tensor] | None:
        """Weights of a spec's method after its setup, which students of a prepared teacher read; None if left out."""
        of, names = (data.facts(spec.data)["classes"], data.shape(spec.data)), _names(spec)
        if (*of, *names) not in self.weights:
            self.weights[*of, *names] = self._set_up(spec, *of)
        return self.weights[*of, *names]

    def _network(self, name: str, options: dict[str, Any], classes: int, shape: tuple[int, int, int]) -> nn.Module:
        key = name, repr(options), classes, shape
        if key not in self.networks:
            trial(name, options, classes, shape, learns=False)
            self.networks[key] = build(name, classes, shape[0], seed=0, **options).eval()
        return self.networks[key]

    @torch.no_grad()
    def _set_up(self, spec: RunSpec, classes: int, shape: tuple[int, int, int]) -> dict[str, Tensor] | None:
        x, teacher, prepared = images(shape), None, None
        student = self._network(spec.model, spec.model_options, classes, shape)
        if isinstance(spec.teacher, RunSpec):
            teacher = self._network(spec.teacher.model, spec.teacher.model_options, classes, shape)
            prepared = self.method_weights(spec.teacher) if spec.teacher.method in preparations() else None
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
    """Method, student and teacher with their options: what a dry run depends on besides the data."""
    above = spec.teacher
    names = () if above is None else _names(above) if isinstance(above, RunSpec) else (above.arch, repr(above.options))
    return spec.method, repr(spec.method_options), spec.model, repr(spec.model_options), *names
