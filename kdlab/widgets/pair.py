"""A trained teacher and a student of it, which explorers ask about images that neither was trained on."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdlab import data, lab, perspectives
from kdlab.lab.networks import stored_network
from kdlab.lab.shipped import shipped
from kdlab.lab.store import Store
from kdlab.perspectives import Profile, recipes
from kdlab.perspectives.notebook_parameters import check_kernel
from kdlab.rng import generator, stream_seed
from kdlab.spec import RunSpec
from kdlab.training.images import view_stages
from kdlab.training.runtime import one_thread
from kdlab.widgets.explorer import Explorer


@dataclass(frozen=True)
class TrainedPair:
    """A teacher, a student and their data.

    Args:
        profile: sizes, budgets and names.
        splits: train, val and test images; explorers show val, which no network was trained on.
        teacher: the trained teacher, in eval mode.
        student: the trained student, in eval mode.
        specs: the runs that ``teacher`` and ``student`` come from, by these names.
    """

    profile: Profile
    splits: data.Splits
    teacher: nn.Module
    student: nn.Module
    specs: dict[str, RunSpec]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; label k is ``classes[k]``."""
        return self.splits.train.classes

    def logits(self, who: str, images: Tensor) -> Tensor:
        """What a network answers.

        Args:
            who: ``"teacher"`` or ``"student"``.
            images: uint8 (B, C, H, W).

        Returns:
            float32 (B, K).
        """
        # Grad mode belongs to a thread, and the callbacks of widgets run in threads of their own.
        with torch.inference_mode(), one_thread():  # on a busy machine two threads wait for each other
            return getattr(self, who)(self.splits.train.normalise(images)).float()


def make_view(
    raw: Tensor, part: Any, policy: str, copy: int, seed: int, draw: int = 0, *, weak: bool = True
) -> tuple[Tensor, dict[str, Tensor]]:
    """A view as a student in training sees it, from the same named streams.

    Args:
        raw: uint8 originals (n, C, H, W).
        part: the augmentation.
        policy: its name, which names its stream.
        copy: number of the view.
        seed: of the run.
        draw: stands for the epoch; another one gives another draw.
        weak: crop and flip as every view gets in training.

    Returns:
        uint8 images (n, C, H, W), and the parameters drawn.
    """
    images, drawn, seed = raw, {}, stream_seed(seed, "student", 0)
    for stage, stream in view_stages(part, policy, copy):
        if weak or stage is part:
            drawn[stage] = stage.draw(len(raw), tuple(raw.shape[1:]), generator(seed, stream, draw))
            images = stage.apply(images, drawn[stage])
    return images, drawn[part]


def trained_pair(
    profile: str | None = None, *, method: str = "kd", seed: int = 0, progress: bool = True, **given: Any
) -> TrainedPair:
    """The shared teacher and student, from the store, else as shipped with the package, else trained now.

    Training is in a process of its own.

    Args:
        profile: smoke, quick, standard, full or paper; None means ``$KDLAB_PROFILE``, else quick.
        method: of the student.
        seed: of teacher and student.
        progress: show what is trained and how long it takes.
        **given: profile fields to change (data, teacher, student); None leaves one alone.

    Raises:
        SpecError: for an unknown profile, field, method or data set, or a parameter that papermill gave to a notebook
            that does not have it.
    """
    check_kernel()
    size = perspectives.profile(profile, **given)
    student = recipes.method(size, method).at_seed(seed)
    specs = {"teacher": student.teacher, "student": student}
    keys, store = [lab.run_key(spec) for spec in specs.values()], Store()
    if not all(map(store.has, keys)) and (apart := shipped(keys)):
        return _open(str(apart.root), size, *keys)
    while True:
        missing = bool(lab.plan(list(specs.values())).missing)
        lab.run(list(specs.values()), workers=1, progress=progress and missing, require_teacher=size.requires_teacher)
        try:
            return _open(str(store.root), size, *keys)
        except lab.Damaged as error:  # only whoever reads weights sees that they are; the run is trained again
            if not store.set_aside(error):
                raise


@functools.lru_cache(maxsize=4)
def _open(place: str, size: Profile, teacher: str, student: str) -> TrainedPair:
    """Reading data and weights takes a second; all explorers of a notebook share one pair."""
    splits, store = data.load(size.data, sizes=size.sizes), Store(Path(place))
    keys = {"teacher": teacher, "student": student}
    specs = {who: RunSpec.from_dict(store.read(key, "spec")["spec"]) for who, key in keys.items()}
    return TrainedPair(size, splits, *(stored_network(keys[who], specs[who], splits, store) for who in keys), specs)


class PairExplorer(Explorer):
    """Base of the explorers that ask a trained pair.

    Args:
        trained: teacher, student and data; None opens the default one.
        **settings: starting values of the settings.

    Raises:
        SpecError: for an unknown setting.
    """

    def __init__(self, trained: TrainedPair | None = None, **settings: Any):
        super().__init__(**settings)
        self.trained = trained or trained_pair()

    def given(self) -> list[str]:
        made, usual = self.trained.profile, perspectives.profile(self.trained.profile.name)
        own = [name for name in ("data", "teacher", "student") if getattr(made, name) != getattr(usual, name)]
        more = "".join(f", {name}={getattr(made, name)!r}" for name in own)
        return [f"widgets.trained_pair({made.name!r}{more})"]

    def reroll(self) -> None:
        """Another draw of the same seed."""
        self.set(draw=self.settings["draw"] + 1)
