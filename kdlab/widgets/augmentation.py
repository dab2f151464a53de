"""What an augmentation does to images, and to what the teacher says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdlab.augment import label_safety
from kdlab.augment.fired import fired
from kdlab.augment.joint import POLICIES
from kdlab.augment.operations import SCALES
from kdlab.errors import choose
from kdlab.plotting.look import INK
from kdlab.registry import catalogue, create
from kdlab.widgets.charts.colours import CHANGED, PLAIN, TEACHER
from kdlab.widgets.charts.tiles import Images, Item, Share, Tiles, Words
from kdlab.widgets.drawing import Drawing, table
from kdlab.widgets.pair import PairExplorer, make_view

SIDE, WIDE = 84, 112  # CSS pixels of an image, and of the column that it heads


class Strength(NamedTuple):
    """The option of a policy that makes it stronger: its name, range, default and unit."""

    option: str
    low: float
    high: float
    step: float
    default: float
    unit: str


STRENGTHS = {
    "randaugment": Strength("magnitude", 0, 30, 1, 9, "bin"),
    "cutout": Strength("size", 0, 28, 1, 8, "pixels"),
    "masking": Strength("share", 0, 1, 0.05, 0.25, "of the patches"),
    "noise": Strength("sigma", 0, 96, 1, 16, "grey levels"),
    "blur": Strength("sigma", 0, 5, 0.1, 1, "pixels"),
    "degrade": Strength("factor", 1, 7, 1, 2, "times fewer pixels"),
    "mixup": Strength("alpha", 0.1, 4, 0.1, 1, "alpha"),
    "cutmix": Strength("alpha", 0.1, 4, 0.1, 1, "alpha"),
} | {
    name: Strength("magnitude", 0, 9, 1, scale.level, "level")
    for name, scale in SCALES.items()
    if scale.level is not None
}
VARIANTS = {"jda": tuple(POLICIES), "autoaugment": ("cifar10", "imagenet", "svhn")}
NONE = "none"  # stands in the menu of variants of a policy without any
HIDDEN = ("cutmix_pick",)  # its images are CutMix's


class View(NamedTuple):
    """Originals and their augmented views: uint8 images (n, C, H, W), labels (n,), and what was done to each."""

    originals: Tensor
    images: Tensor
    labels: Tensor
    fired: list[list[str]]


class AugmentationExplorer(PairExplorer):
    """Originals over augmented views, the operations that fired, and the teacher's soft labels of both.

    The draws come from the same named streams as in training, so a draw can be held while the strength changes.

    Args:
        trained: teacher and data; None opens the default one.
        **settings: ``policy`` (a registered augmentation), ``variant`` (of JDA and AutoAugment), ``probability``,
            ``strength`` (of the policy's own option; None is its default), ``seed``, ``draw`` (which draw of the seed),
            ``count`` (images), ``first`` (number of the first image), ``weak`` (crop and flip as in training) and
            ``hold`` (keep the draw when the strength changes).

    Raises:
        SpecError: for an unknown setting or policy.
    """

    TITLE = "Augmentation explorer"
    QUESTION = (
        "What does the student see, and what does the teacher say of it? Reroll, or hold the draw and turn it up."
    )
    DEFAULTS = {
        "policy": "jda", "variant": None, "probability": None, "strength": None, "seed": 0, "draw": 0, "count": 16,
        "first": 0, "weak": True, "hold": True,
    }  # fmt: skip
    KINDS = {"variant": str, "probability": float, "strength": float}

    def _set(self, settings: Mapping[str, Any]) -> None:
        if settings.get("policy") is not None:
            choose("policy", settings["policy"], catalogue("augment"))
        super()._set(settings)

    def options(self) -> dict[str, Any]:
        """The policy's options for the present settings, as a spec would name them, without defaults."""
        s, policy = self.settings, self.settings["policy"]
        known = catalogue("augment")[policy].options
        made = {"policy": variant} if (variant := self._variant()) not in (None, known.get("policy")) else {}
        if "probability" in known and s["probability"] not in (None, self._usual_probability()):
            made["probability"] = float(s["probability"])
        if policy in STRENGTHS and s["strength"] not in (None, STRENGTHS[policy].default):
            strength = STRENGTHS[policy]
            whole = strength.step == 1 and not isinstance(known[strength.option], float)
            made[strength.option] = int(s["strength"]) if whole else float(s["strength"])
        return made

    def view(self) -> View:
        """The images of the present settings."""
        s, val = self.settings, self.trained.splits.val
        index = (torch.arange(s["count"]) + s["first"]) % len(val)
        raw = val.batch(index)
        part = create("augment", s["policy"], **self.options())
        images, params = make_view(raw, part, s["policy"], 1, s["seed"], s["draw"], weak=s["weak"])
        done = fired(part, params, s["policy"]) if params else [[] for _ in index]
        return View(raw, images, val.labels[index], done)

    def draw(self) -> Drawing:
        view = self.view()
        before, after = (self.trained.logits("teacher", x).softmax(1) for x in (view.originals, view.images))
        n = len(view.images)
        tiles = [self._tile(view, number, before[number], after[number]) for number in range(n)]
        flips = int((before.argmax(1) != after.argmax(1)).sum())
        drift = float((before * (before.clamp_min(1e-12).log() - after.clamp_min(1e-12).log())).sum(1).mean())
        alt = f"{n} originals above their views under {self.settings['policy']}, and the teacher's top three classes"
        numbers = self._numbers(view, before, after)
        return Drawing([[Tiles(tiles, WIDE, 600)]], alt, self._caption(n, flips, drift), numbers)

    def _numbers(self, view: View, before: Tensor, after: Tensor) -> str:
        """Label, the teacher's first choice before and after, and what fired, image by image."""
        names = self.trained.classes

        def first(soft: Tensor) -> str:
            return f"{names[int(soft.argmax())]} {100 * float(soft.max()):.0f} %"

        rows = zip(view.labels.tolist(), before, after, view.fired, strict=True)
        cells = ((names[label], first(a), first(b), ", ".join(done) or "nothing") for label, a, b, done in rows)
        return table(("label", "teacher on the original", "teacher on the view", "fired"), cells)

    def _tile(self, view: View, number: int, before: Tensor, after: Tensor) -> list[Item]:
        """One image: the original and what the teacher says of it, above its view and what fired."""
        flipped = bool(before.argmax() != after.argmax())
        steps = view.fired[number] or ["nothing fired"]
        return [
            Words(self.trained.classes[int(view.labels[number])], bold=True),
            Images([view.originals[number].numpy()], SIDE),
            *self._top3(before),
            Images([view.images[number].numpy()], SIDE, *((CHANGED, "✕") if flipped else ())),
            *self._top3(after, flipped),
            Words(", ".join(steps[:5]) + (" …" if len(steps) > 5 else ""), PLAIN, size=12),
        ]

    def _top3(self, soft: Tensor, flipped: bool = False) -> Iterator[Share]:
        for place, label in enumerate(soft.topk(min(3, len(soft))).indices.tolist()):
            text, new = f"{100 * soft[label]:.0f} % {self.trained.classes[label]}", flipped and not place
            yield Share(text, float(soft[label]), TEACHER, CHANGED if new else INK, new)

    def _caption(self, n: int, flips: int, drift: float) -> str:
        s = self.settings
        code = f"augmentation={s['policy']!r}, augmentation_options={self.options()!r}"
        note = label_safety(self.trained.profile.data, s["policy"])
        lines = [
            f"<b>{flips} of {n}</b> views change the teacher's first choice (framed, ✕). Mean divergence of its soft "
            f"labels, KL(original ‖ view): <b>{drift:.2f} nats</b>.",
            f"In a spec: <code>{code}</code>",
        ]
        return "<br>".join(lines + ([f"Label safety on these data: {note}."] if note else []))

    def controls(self) -> dict[str, Any]:
        names, narrow = sorted(n for n in catalogue("augment") if n not in HIDDEN), {"width": "auto", "indent": False}
        return {
            "policy": self.field("Dropdown", "policy", options=names),
            "variant": self.field("Dropdown", "variant", width="170px", options=[NONE], value=NONE),
            "probability": self.field("FloatSlider", "probability", value=1, min=0, max=1, step=0.05),
            "strength": self.field("FloatSlider", "strength", value=1, min=0, max=9, step=1),
            "seed": self.field("BoundedIntText", "seed", width="120px", min=0, max=9999),
            "count": self.field("Dropdown", "count", "images", "130px", options=[8, 16, 24]),
            "weak": self.field("Checkbox", "weak", "crop and flip", **narrow),
            "hold": self.field("Checkbox", "hold", "hold the draw", **narrow),
            "reroll": self.button("Reroll", self.reroll, "Draw again for the same images", "random"),
            "other": self.button("Other images", self.turn_page, "Show the next images"),
        }

    def turn_page(self) -> None:
        """The next images."""
        self.set(first=self.settings["first"] + self.settings["count"])

    def adapt(self, changed: str) -> None:
        if changed in ("probability", "strength") and not self.settings["hold"]:
            self.settings["draw"] += 1
        if changed in ("", "policy"):
            if changed:
                self.settings |= {"variant": None, "probability": None, "strength": None}
            self._adapt_variant()
            self._adapt_probability()
            self._adapt_strength()
        if changed == "variant":
            self.settings["probability"] = None
            self._adapt_probability()

    def _variant(self) -> str | None:
        """The one that is set, which must be one of the policy's; None leaves it to the policy."""
        chosen = self.settings["variant"]
        if chosen is not None:
            choose("setting variant", chosen, VARIANTS.get(self.settings["policy"], (NONE,)))
        return None if chosen == NONE else chosen

    def _usual_probability(self) -> float:
        """The policy's own; NaN where it has none."""
        if self.settings["policy"] == "jda":
            return POLICIES[self._variant() or "cifar100"][0]
        return catalogue("augment")[self.settings["policy"]].options.get("probability", np.nan)

    def _adapt_variant(self) -> None:
        variants, chosen = VARIANTS.get(self.settings["policy"], ()), self._variant()
        control = self.control["variant"]
        control.options, control.disabled = variants or [NONE], not variants
        control.value = chosen or (variants[0] if variants else NONE)

    def _adapt_probability(self) -> None:
        s, control, default = self.settings, self.control["probability"], self._usual_probability()
        control.disabled = bool(np.isnan(default))
        control.tooltip = "of each operation, for each image" if not control.disabled else "this policy has none"
        if not control.disabled:
            control.value = default if s["probability"] is None else s["probability"]

    def _adapt_strength(self) -> None:
        s, control = self.settings, self.control["strength"]
        strength = STRENGTHS.get(s["policy"])
        control.disabled = strength is None
        if strength is None:
            control.description = "strength"
            return
        given = strength.default if s["strength"] is None else s["strength"]
        control.min, control.max = min(strength.low, control.min), max(strength.high, control.max)  # never crossed
        control.value, control.step = given, strength.step
        control.min, control.max = strength.low, strength.high
        control.readout_format = "d" if strength.step >= 1 else ".2f"
        control.description = f"{strength.option} ({strength.unit})"
