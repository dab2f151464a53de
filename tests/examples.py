"""What the tests of methods share: random Outputs of two small networks, batches, contexts."""

from dataclasses import replace

import torch

from kdlab.losses import Batch, Context, Method
from kdlab.models import Outputs, build
from kdlab.registry import catalogue, create

CLASSES, TRAIN = 5, 40
ENTRIES = catalogue("losses")


def networks(classes=CLASSES):
    """The student and the frozen teacher whose shapes ``example`` has, in float64."""
    student = build("resnet8_s2_w4", classes, 1, seed=0).double()
    return student, build("resnet8_s2_w8", classes, 1, seed=1).double().eval().requires_grad_(False)


def random_outputs(rows, width, classes=CLASSES, size=6, seed=0) -> Outputs:
    """Standard normal Outputs in float64 with three stages; nothing in them fits together but the shapes."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    def normal_like(values):
        return normal(*values.shape)

    sizes = (size, -(-size // 2), -(-size // 4))
    maps = tuple(normal(rows, width * 2**stage, s, s) for stage, s in enumerate(sizes))
    logits, embedding, final = normal(rows, classes), normal(rows, 4 * width), normal(rows, 4 * width, *[sizes[-1]] * 2)
    return Outputs(logits, maps, embedding, final, normal(rows, width, size, size), tuple(map(normal_like, maps)))


def example(rows=8, classes=CLASSES, seed=0, same_size=True, turns=False):
    """Random Outputs of student and teacher, and a batch of pairs (the last row a lone second view) or of turns."""
    student = replace(random_outputs(rows, 4, classes, seed=2 * seed), before=())  # in train mode
    teacher = random_outputs(rows, 8, classes, size=6 if same_size else 4, seed=2 * seed + 1)
    views = 4 if turns else 2
    originals = rows // views
    origin = torch.arange(originals).repeat(views)
    label = torch.randint(classes, (originals + 1,), generator=torch.Generator().manual_seed(seed))
    if not turns:
        origin[-1] = originals
    view = torch.arange(views).repeat_interleave(originals)
    batch = Batch.of(
        label=label[origin], origin=origin, index=3 * origin, view=view, variant=view if turns else 0 * view,
        augmented=view > 0,
    )  # fmt: skip
    return student, teacher, batch


def example_for(name: str, **options):
    """``example`` with the views that a method needs."""
    return example(turns="turns" in ENTRIES[name].needs, **options)


def context(name: str | None = None, classes=CLASSES, nets=None) -> Context:
    """A Context with everything a method may ask for."""
    student, teacher = nets or networks(classes)

    def teacher_pass():
        for part in range(4):
            rows = slice(10 * part, 10 * part + 10)
            yield random_outputs(10, 8, classes, seed=100 + part), labels[rows]

    labels = torch.arange(TRAIN) % classes
    prepared = None
    if name and (preparing := ENTRIES[name].prepared):
        prepared = made(preparing[0], *example_for(preparing[0])[:2], classes=classes).state_dict()
    draw = torch.Generator().manual_seed(1)
    return Context(classes, TRAIN, draw, 1, labels, student, teacher, teacher_pass, prepared)


def made(name: str, student: Outputs, teacher: Outputs, classes=CLASSES, **options) -> Method:
    """A registered method in float64, set up on two rows of an example."""
    method = create("losses", name, **options)
    method.setup(student.rows(slice(2)).detach(), teacher.rows(slice(2)), context(name, classes))
    return method.double()


def leaves(out: Outputs) -> tuple[list[torch.Tensor], Outputs]:
    """The tensors of some Outputs as leaves that want gradients, and Outputs made of them."""
    values = (out.logits, out.embedding, out.final, *out.features, out.stem, *out.before)
    fresh, count = [v.detach().clone().requires_grad_() for v in values], 3 + len(out.features)
    return fresh, Outputs(fresh[0], tuple(fresh[3:count]), *fresh[1:3], fresh[count], tuple(fresh[count + 1 :]))
