"""Method, the base of all distillation methods, and the terms of a row that they share."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform

import torch
from torch import Tensor, nn

from kdlab.errors import SpecError
from kdlab.losses import options
from kdlab.losses.batch import Batch, Context, Losses
from kdlab.losses.options import Count, NonNegative, Positive, at_most
from kdlab.losses.rows import cross_entropy_rows, kl_rows, match_size, one_class, warm_up
from kdlab.models import Outputs, outputs
from kdlab.rng import generator

__all__ = [
    "Batch", "Context", "Count", "Losses", "Method", "NonNegative", "Positive", "at_most", "cross_entropy_rows",
    "kl_rows", "match_size", "one_class", "warm_up",
]  # fmt: skip
READ = {"features": "stage maps", "embedding": "an embedding", "final": "the map before pooling"}
ROWS = {
    "pairs": "which rows are views of one image: Batch.of(labels, views=2)",
    "turns": "how each row is turned: Batch.of(labels, views=4, turns=True)",
    "memory": "where each row stands in the training set: Batch.of(labels, index=index, step=step)",
}


def _pass(teacher: nn.Module, train: Iterable[tuple[Tensor, Tensor]], device: torch.device):
    for x, label in train:
        yield outputs(teacher, x.to(device)), label


class NotAttached(SpecError, AttributeError):
    """A part of a method was asked for before there were networks to make it for."""


@dataclass_transform()
class Method(nn.Module):
    """A distillation objective: a dictionary of named, weighted terms whose sum the student minimises.

    A subclass declares its options as class-level fields with literal defaults, and their ranges in the type::

        weight: NonNegative = 1.0
        form: Annotated[str, ("crd", "kernel")] = "crd"

    Its own come first, then those of its base that it does not declare anew. ``__post_init__`` checks options against
    each other; a class with an ``__init__`` of its own has the options of that one instead.

    A subclass writes ``rows`` when all its terms are means over rows, else ``terms``. Its parameters are
    trained with the student's; its buffers are saved with them. Register it with what planning must know
    (``kdlab.registry.MethodInfo``), among it:

    - ``needs``: teacher, pairs (two views of an image), features (stage maps; who
      shows them has an embedding too), embedding, final (map before pooling, and a linear
      classifier), labels (of one class a row: mixed images are refused), dataset (the training set's size and labels,
      or a pass of the teacher over it), turns (its own views: all four quarter turns), prepared (a teacher with parts
      of its own), memory (grows with the training set), inference (its parts are used at test time);
    - ``least``: where its own terms can vanish, each of them (so that all may) with the least ``classes``, ``rows`` a
      step or ``originals`` a step from which it has a gradient, ``{}`` for one that always has: fewer for all terms are
      refused, fewer for some are noted by the plan.
    """

    names: ClassVar[tuple[str, ...]] = ()
    facts: ClassVar[Mapping[str, Any]] = {}
    seed = 0  # of the streams that it draws from at each step
    calls = 0  # with labels in place of a Batch
    _fields: ClassVar[dict[str, inspect.Parameter]] = {}
    __signature__: ClassVar[inspect.Signature | None] = inspect.Signature()

    def __init_subclass__(cls, **given: Any):
        super().__init_subclass__(**given)
        if "__init__" in vars(cls):
            cls.__signature__ = None  # so that Python reads the constructor's
        elif cls.__signature__ is not None:
            own = options.fields(cls)
            cls._fields = own | {name: option for name, option in cls._fields.items() if name not in own}
            cls.__signature__ = options.signature(cls._fields)

    def __init__(self, *args: Any, **given: Any):
        super().__init__()
        bound = inspect.Signature(list(self._fields.values())).bind(*args, **given)
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            setattr(self, name, options.checked(self._fields[name], value))
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check options against each other, and make the parts that need no network."""

    def __getattr__(self, name: str) -> Any:
        """A parameter, buffer or part of the method, which torch keeps apart; what ``setup`` makes is missing before.

        Raises:
            NotAttached: for a name that is not there.
        """
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            if type(self).setup is Method.setup:
                raise
            raise NotAttached(
                f"{error}. What {self._name} makes for two networks is made by "
                f"attach(student, teacher, images), before the optimiser takes its parameters()."
            ) from None

    @property
    def _name(self) -> str:
        return self.names[0] if self.names else type(self).__name__

    @property
    def _needs(self) -> set[str]:
        return set(self.facts.get("needs", ()))

    @torch.no_grad()
    def attach(
        self,
        student: nn.Module,
        teacher: nn.Module | None,
        images: Tensor,
        *,
        labels: Tensor | None = None,
        train: Iterable[tuple[Tensor, Tensor]] | None = None,
        prepared: nn.Module | Mapping[str, Tensor] | None = None,
        seed: int = 0,
    ) -> Self:
        """Make the method's own parts (projections, memories, class means) for two networks, outside of the workbench.

        Afterwards ``parameters()`` has what is trained with the student.

        Args:
            student: the network in training; the teacher itself for a method that prepares one.
            teacher: the frozen network; None for methods without one.
            images: a few normalised images, (B, C, H, W), on the device of both networks.
            labels: classes of all N training images, int64 (N,), for methods with a memory.
            train: all clean training images, normalised, as batches (x, label), for methods that need the teacher's
                outputs on them.
            prepared: the method that prepared the teacher, or its ``state_dict()``.
            seed: of the method's initial weights and its draws in each step.

        Returns:
            The method, on the device of the images.

        Raises:
            SpecError: when the networks do not fit the method, or it needs an argument that is missing.
        """
        if "dataset" in self._needs and (labels if "memory" in self._needs else train) is None:
            missing = "labels, the classes of" if "memory" in self._needs else "train, batches (x, label) of"
            raise SpecError(f"{self._name} needs {missing} all training images: attach(student, teacher, images, ...).")
        modes = {module: module.training for network in (student, teacher) if network for module in network.modules()}
        for module in modes:
            module.training = False
        student_outputs = outputs(student, images)
        teacher_outputs = None if teacher is None else outputs(teacher, images)
        self._check_outputs(student_outputs, teacher_outputs)
        passes = None if train is None or teacher is None else partial(_pass, teacher, train, images.device)
        state = prepared.state_dict() if isinstance(prepared, nn.Module) else prepared
        classes, size = student_outputs.logits.shape[1], 0 if labels is None else len(labels)
        draw = generator(seed, "method")
        context = Context(classes, size, draw, seed, labels, student, teacher, passes, state)
        self.setup(student_outputs, teacher_outputs, context)
        for module, training in modes.items():
            module.training = training
        return self.to(images.device)

    def _check_outputs(self, student: Outputs, teacher: Outputs | None) -> None:
        """Refuse Outputs without what the method reads.

        Raises:
            SpecError: naming the network and what it does not show.
        """
        for need in self._needs & READ.keys():
            for who, out in (("student", student), ("teacher", teacher)):
                if out is None or (who == "student" and need in self.facts.get("of_teacher", ())):
                    continue
                if getattr(out, need) is None or not len(getattr(out, need)):
                    raise SpecError(
                        f"{self._name} reads {READ[need]}, which the Outputs of the {who} do not have: "
                        "kdlab.models.outputs(model, x) gives them, of a model that is not kdlab's if it is Tapped."
                    )

    def setup(self, student: Outputs, teacher: Outputs | None, context: Context) -> None:
        """Make parameters and refuse what cannot work, from the Outputs of a few example rows."""
        self.seed = context.seed

    def rows(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """The terms that are means over rows, before the mean: name to weighted values (B,)."""
        raise NotImplementedError

    def hard_rows(self, student: Outputs, batch: Batch) -> Tensor:
        """Cross-entropy of each row with its label, (B,), times the method's option ``ce_weight``."""
        return self.ce_weight * cross_entropy_rows(student.logits, batch)

    def terms(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """All terms as weighted scalars; ``ce`` alone follows the batch's ``hard_weight``."""
        values = self.rows(student, teacher, batch)
        return {name: batch.mean(value, hard=name == "ce") for name, value in values.items()}

    def forward(self, student: Outputs | Tensor, teacher: Outputs | Tensor | None, batch: Batch | Tensor) -> Losses:
        """Named, weighted scalars, in float32 at least; the teacher never gets a gradient.

        Args:
            student: Outputs of the student on the batch; for methods on logits they suffice, (B, K).
            teacher: Outputs, or logits, of the teacher on the same rows; None for methods without one.
            batch: the B rows, or their classes, int64 (B,): then of distinct images, after any warm-up, in a new step.

        Raises:
            SpecError: when the method needs more than it is given.
        """
        if isinstance(batch, Tensor):
            batch = self._batch(batch)
        if isinstance(student, Tensor):
            student = Outputs(student, (), None)
        if isinstance(teacher, Tensor):
            teacher = Outputs(teacher, (), None)
        self._check_outputs(student, teacher)
        return Losses(self.terms(student.full(), None if teacher is None else teacher.full().detach(), batch))

    if TYPE_CHECKING:  # torch types a call as Any

        def __call__(
            self, student: Outputs | Tensor, teacher: Outputs | Tensor | None, batch: Batch | Tensor
        ) -> Losses: ...

    def _batch(self, labels: Tensor) -> Batch:
        """Rows of which no more than their classes is known; each call draws anew.

        Raises:
            SpecError: when the method must know more of them.
        """
        for need in self._needs & ROWS.keys():
            raise SpecError(f"{self._name} needs a Batch, not labels alone; it says {ROWS[need]}.")
        self.calls += 1
        return Batch.of(labels, step=self.calls, progress=1.0)

    def after_step(self, batch: Batch) -> None:
        """Called after each step of the optimiser, for memories and moving averages."""

    def predict(self, model: nn.Module, x: Tensor) -> Tensor:
        """Logits (B, K) at test time."""
        return model(x)
