"""Every shortcut against the simple path: one run, one row, one operation at a time, as a short script would do it."""

import pytest
import torch

from kdlab.augment.joint import POLICIES
from kdlab.augment.operations import SCALES, draw_signs
from kdlab.data import load
from kdlab.losses.base import Batch
from kdlab.models import build, outputs
from kdlab.models.frozen import frozen
from kdlab.registry import create
from kdlab.rng import generator, stream_seed
from kdlab.spec import Budget, RunSpec
from kdlab.training import Arm, Views
from kdlab.training import train as train_cohort
from kdlab.training.runtime import one_thread

ORIGINALS, STEPS = 32, 13
KD = RunSpec(
    sizes=(320, 100, 100), model="resnet8_s2_w4", method="kd", views=2, augmentation="jda", ratio=0.5,
    budget=Budget(STEPS, "steps", ORIGINALS),
)  # fmt: skip


def jda(images, draw):
    """The CIFAR-100 policy: each operation on each row by itself, those that do nothing included."""
    probability, steps = POLICIES["cifar100"]
    fired = torch.rand(len(images), len(steps), generator=draw) < probability
    sign = draw_signs(len(images), len(steps), draw)
    changed = []
    for row in range(len(images)):
        image = images[row : row + 1]
        for k, (name, index) in enumerate(steps):
            if fired[row, k]:
                image = SCALES[name].apply(image, index, sign[row : row + 1, k])
        changed.append(image)
    return torch.cat(changed)


def crop_and_flip(images, draw):
    """Four black pixels around, a corner, a mirror, row by row."""
    corner = torch.randint(9, (len(images), 2), generator=draw)
    flip = torch.rand(len(images), generator=draw) < 0.5
    height, width = images.shape[2:]
    rows = []
    for image, (top, left), mirrored in zip(images, corner.tolist(), flip.tolist(), strict=True):
        framed = torch.zeros(image.shape[0], height + 8, width + 8, dtype=torch.uint8)
        framed[:, 4:-4, 4:-4] = image
        cut = framed[:, top : top + height, left : left + width]
        rows.append(cut.flip(2) if mirrored else cut)
    return torch.stack(rows)


def simple_path(spec, train, teacher):
    """The student's weights after a run of joint augmentation, without cohorts, memory of views or kept answers."""
    seed = stream_seed(spec.seed, "student", 0)  # role and replicate
    student = build(spec.model, 10, 1, seed=seed)
    method = create("losses", spec.method)
    o = spec.optimiser
    descent = torch.optim.SGD(
        student.parameters(), o.lr, momentum=o.momentum, nesterov=o.nesterov, weight_decay=o.weight_decay, fused=True
    )
    per_epoch = len(train) // ORIGINALS
    for number in range(STEPS):
        epoch, step = divmod(number, per_epoch)
        order = torch.randperm(len(train), generator=generator(seed, "order", epoch))
        index = order[step * ORIGINALS : (step + 1) * ORIGINALS]
        raw = train.images[index]
        changed = raw, jda(raw, generator(seed, "jda/1", epoch, step))
        views = [crop_and_flip(x, generator(seed, f"weak/{copy}", epoch, step)) for copy, x in enumerate(changed)]
        views = [train.normalise(x) for x in views]
        origin = torch.arange(ORIGINALS).repeat(2)
        view = torch.arange(2).repeat_interleave(ORIGINALS)
        batch = Batch.of(
            train.labels[index].repeat(2), x=torch.cat(views), index=index.repeat(2), origin=origin, view=view,
            augmented=view == 1, epoch=epoch, step=step, progress=number / STEPS,
        )  # fmt: skip
        with torch.no_grad():
            said = [outputs(frozen(teacher, x), x) for x in views]
        descent.param_groups[0]["lr"] = o.rate((number + 0.5) / STEPS)
        descent.zero_grad()
        sum(method(outputs(student, batch.x), type(said[0]).cat(said), batch).values()).backward()
        descent.step()
    return student.state_dict()


@pytest.mark.parametrize("method", ["kd", "ccd", "dist", "sp"])
def test_a_run_in_a_cohort_has_the_bits_of_the_simple_path(method):
    splits = load("fashion", sizes=KD.sizes)
    teacher = build("resnet8_s2_w8", 10, 1, seed=9).eval().requires_grad_(False)
    company = {"run": KD.replace(method=method), "other": KD.replace(ratio=0.25), "plain": KD.replace(ratio=0.0)}
    arms = [Arm(key, spec, "t", STEPS) for key, spec in company.items()]
    done = {}
    nothing = lambda *given: None  # noqa: E731
    train_cohort(
        arms, splits, Views(splits.train, 0, 0, ORIGINALS, {"t": teacher}),
        restore=nothing, save=nothing, beat=nothing, finish=lambda arm, result: done.update({arm.key: result}),
    )  # fmt: skip
    with one_thread():
        simple = simple_path(company["run"], splits.train, teacher)
    assert done["run"].student.keys() == simple.keys()
    assert all(torch.equal(value, simple[name]) for name, value in done["run"].student.items())
