"""The measure ``views``: what a student's teacher makes of the augmented views that the student is trained on."""

from __future__ import annotations

import torch

from kdlab.lab.asking import answers
from kdlab.lab.keys import teacher_key
from kdlab.lab.networks import splits_of, teacher_network
from kdlab.lab.store import Store
from kdlab.metrics import entropy
from kdlab.metrics import views as metrics
from kdlab.models.frozen import frozen
from kdlab.spec import RunSpec
from kdlab.training.layout import Layout
from kdlab.training.runtime import one_thread
from kdlab.training.views import Views

GROUPS = 400


def measured(spec: RunSpec, store: Store) -> dict[str, float]:
    """What the teacher of a run says of two augmented views of each of its training images.

    Nothing of it needs the student; it is kept beside the run since it belongs to its teacher, images and augmentation.

    Args:
        spec: of the run.
        store: where the teacher is.

    Returns:
        ``t_stddev``, of groups of 320 originals and one view of each (a third of the images, where that is fewer), a
        share of probability; ``flips``, the share of views that the teacher does not call by their label among those
        whose original it does; ``agreement`` of the two views and ``entropy`` of the answers to them, in nats;
        ``plain_t_stddev``, that of originals alone, beside which the first is to be read. Empty without a teacher.

    Raises:
        SpecError: when the teacher cannot be loaded.
    """
    if spec.teacher is None:
        return {}
    splits = splits_of(spec)
    train = splits.train.subset(spec.fraction, spec.seed)
    with one_thread():
        views = Views(train, spec.seed, 0, len(train), {}, role="views")
        views.at(0)
        rich = Layout.of(spec.replace(views=2, ratio=1.0))
        batch, clean = views.batch(rich, 0.0), views.clean()
        teacher = frozen(teacher_network(spec.teacher, teacher_key(spec.teacher), splits, store), clean[:500])
        plain, both = (torch.from_numpy(answers(teacher, x).logits) for x in (clean, batch.x))
    first, second = both.split(len(train))
    labels, size = views.label.numpy(), min(metrics.GROUP, len(train) // 3)
    groups = metrics.draw_groups(len(train), GROUPS, size, spec.seed).ravel()
    return {
        "t_stddev": metrics.t_stddev(plain[groups], first[groups], size),
        "plain_t_stddev": metrics.t_stddev(plain[groups], plain[groups], size),
        "flips": metrics.label_flip_rate(first, labels, plain),
        "agreement": metrics.view_agreement([first, second]),
        "entropy": entropy(both),
    }
