"""Factor transfer (FT): the student's map matches codes of the teacher's, made by a trained autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.errors import SpecError
from kdlab.losses.base import Method, NonNegative, Positive, match_size
from kdlab.losses.kd import KD
from kdlab.losses.layers import convolution
from kdlab.registry import register


def layers(widths: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    """3x3 convolutions through the given widths, each with BatchNorm and a leaky ReLU of slope 0.1."""
    parts: list[nn.Module] = []
    for a, b in pairwise(widths):
        parts += [convolution(a, b, generator, 3), nn.BatchNorm2d(b), nn.LeakyReLU(0.1)]
    return nn.Sequential(*parts)


@register(
    "ft_paraphraser", revision=1, knowledge="features", coupling="agnostic", needs=("teacher", "features"),
    stage="teacher",
)  # fmt: skip
class FTParaphraser(Method):
    """Prepares a teacher for ``ft``: an autoencoder of the map of its last stage.

    ``L = mean_i mean_{chw} (d(e(g_i)) - g_i)^2``, with g the teacher's map, e the paraphraser, which gives k times
    as many channels as g has, and d its inverse; each has three 3x3 convolutions of stride 1 with BatchNorm and a
    leaky ReLU. At stride 1 the paper's transposed convolutions are convolutions.

    Outside of the workbench, ``attach(teacher, teacher, images)`` makes encoder and decoder.

    Args:
        rate: k > 0.

    Raises:
        SpecError: for a value out of range.

    Reference: Kim, Park and Kwak, Paraphrasing Complex Network: Network Compression via Factor Transfer, NeurIPS 2018.
    """

    rate: Positive = 0.5

    def setup(self, student, teacher, context):
        target = teacher.features[-1]
        width = target.shape[1]
        factors = max(1, round(self.rate * width))
        self.encoder = layers((width, width, factors, factors), context.generator).to(target)
        self.decoder = layers((factors, factors, width, width), context.generator).to(target)

    def rows(self, student, teacher, batch):
        target = teacher.features[-1]
        again = self.decoder(self.encoder(target))
        return {"ft_paraphraser": F.mse_loss(again, target, reduction="none").mean((1, 2, 3))}


@register(
    "ft", revision=1, knowledge="features", coupling="agnostic", needs=("teacher", "features", "prepared"),
    prepared=("ft_paraphraser",), tune="weight",
)  # fmt: skip
class FT(KD):
    """KD plus the distance between the teacher's factors and those translated from the student's map.

    ``L = L_KD + c mean_i mean_d |u(r(f_i)) - u(e(g_i))|_d``, with f and g the student's and the teacher's map of
    the last stage, e the frozen paraphraser of ``ft_paraphraser``, r the trained translator of the same form to as
    many channels, and u the flattening to a vector of d numbers and unit length. Maps of different sizes are pooled to
    the smaller before u. The formula and the weight are the paper's, which the CRD comparison names too (its commands
    have 200).

    Outside of the workbench, ``attach(student, teacher, images, prepared=...)`` makes the translator and takes over the
    paraphraser of a trained ``FTParaphraser``.

    Args:
        weight: c >= 0.
        temperature, ce_weight, kd_weight, preset: of the KD term, see ``KD``.

    Raises:
        SpecError: for a value out of range, for a teacher without a paraphraser or with one of another width.

    Reference: Kim, Park and Kwak, Paraphrasing Complex Network: Network Compression via Factor Transfer, NeurIPS 2018.
    """

    weight: NonNegative = 500.0

    def setup(self, student, teacher, context):
        if context.prepared is None:
            raise SpecError("ft needs a prepared teacher: train ft_paraphraser on it first.")
        state = {k.removeprefix("encoder."): v for k, v in context.prepared.items() if k.startswith("encoder.")}
        weights = [state[f"{layer}.weight"] for layer in (0, 3, 6)]  # of the convolutions, see layers()
        widths = [weights[0].shape[1], *(weight.shape[0] for weight in weights)]
        hint, target = student.features[-1], teacher.features[-1]
        if widths[0] != target.shape[1]:
            raise SpecError(
                f"ft needs a paraphraser for {target.shape[1]} channels, the teacher's last map, but got one for"
                f" {widths[0]}."
            )
        self.encoder = layers(widths, context.generator).to(target).requires_grad_(False).eval()
        self.encoder.load_state_dict(state)
        self.translator = layers((hint.shape[1], hint.shape[1], widths[-1], widths[-1]), context.generator).to(hint)

    def train(self, mode: bool = True) -> FT:
        """Training mode for all but the paraphraser, whose BatchNorm statistics stay as prepared."""
        super().train(mode)
        if hasattr(self, "encoder"):  # not before setup
            self.encoder.eval()
        return self

    def factor_rows(self, hint: Tensor, target: Tensor) -> Tensor:
        """Mean absolute difference of each row between the factors of student and teacher, (B,)."""
        mine, theirs = match_size(self.translator(hint), self.encoder(target))
        return (F.normalize(mine.flatten(1)) - F.normalize(theirs.flatten(1))).abs().mean(1)

    def rows(self, student, teacher, batch):
        distance = self.factor_rows(student.features[-1], teacher.features[-1])
        return super().rows(student, teacher, batch) | {"ft": self.weight * distance}
