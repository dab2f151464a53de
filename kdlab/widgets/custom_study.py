"""A study of a person's own folder of images: which augmentation to distil with, its runs, contrasts and answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape

import numpy as np
import pandas as pd

from kdlab import data, plotting
from kdlab.errors import SpecError
from kdlab.lab import datasheet
from kdlab.lab.checkpoint import checkpoint as find_checkpoint
from kdlab.models.heads import order_of
from kdlab.paths import home
from kdlab.perspectives import Study, own_images, recipes
from kdlab.perspectives.own_images import METRIC
from kdlab.plotting.look import few_seeds
from kdlab.plotting.panels import MINUS
from kdlab.widgets.charts.colours import TEACHER
from kdlab.widgets.charts.tiles import Images, Share, Tiles, Words
from kdlab.widgets.drawing import Drawing
from kdlab.widgets.drawing import table as as_table
from kdlab.widgets.runs.panels import arms_panel, verdict_panel

SAMPLES = 9


def example(images_per_class: int = 100, classes: Sequence[int] = (0, 2, 5)) -> str:
    """A small folder of bundled images to try this on, one sub-folder per class; made once.

    Args:
        images_per_class: images in each class.
        classes: labels of the bundled data to take.

    Returns:
        Its path, under the output folder.
    """
    from PIL import Image

    root = home() / f"example-images-{images_per_class}-{len(classes)}"
    if len(list(root.glob("*/*.png"))) == images_per_class * len(classes):
        return str(root)
    val = data.load("fashion", sizes=(1000, 1000, 10)).train
    for label in classes:
        folder = root / val.classes[label].replace("/", " or ")
        folder.mkdir(parents=True, exist_ok=True)
        rows = np.flatnonzero(val.labels.numpy() == label)[:images_per_class]
        for number, row in enumerate(rows):
            Image.fromarray(val.images[row, 0].numpy()).save(folder / f"{number:03d}.png")
    return str(root)


def custom_study(
    folder: str, size: int, teacher: str, checkpoint: str, student: str, augmentations: Sequence[str], seeds: int,
    epochs: float, classes: str = "",
) -> Study:  # fmt: skip
    """The study of ``perspectives.own_images`` from an explorer's settings.

    Args:
        folder: path of the images: one sub-folder per class, or train/ and test/ with such.
        size: side in pixels that all images are resized to; 0 leaves them at their own, as ``folder:PATH`` does.
        teacher: a registered model or ``module:Class`` (``torchvision.models:resnet18``), with options after a question
            mark (``mymodels:TinyNet?width=8``).
        checkpoint: a file with the teacher's weights (``FILE?weights=ema`` chooses); empty to train it here.
        student: a model, as the teacher's is given.
        augmentations: registered policies, each compared with two weak views of equal cost.
        seeds: how many, >= 2.
        epochs: of the student, and of a teacher that is trained here; 0 makes the steps that a student needs.
        classes: how the checkpoint's classes map to the folder's (``kdlab.models.heads.order_of``); empty where they
            stand in the same order.

    Raises:
        SpecError: for what cannot run, before anything trains.
    """
    if not folder:
        raise SpecError("folder must name a folder of images: one sub-folder per class.")
    name, taught = f"folder:{folder}" + (f"?size={size}" if size else ""), teacher
    if checkpoint:
        file = find_checkpoint("checkpoint", checkpoint, *recipes.network(teacher).values())
        taught = replace(file, classes=order_of(classes, file.path, name) if classes.strip() else ())
    return own_images.own_images(
        name, teacher=taught, student=student, augmentations=augmentations, seeds=seeds, epochs=epochs or None
    )


def samples(name: str) -> Drawing:
    """Class balance and a few images of each class.

    Args:
        name: ``folder:PATH?size=32`` or any data set.
    """
    source = data.describe(name)
    classes = source.classes
    counts = {split: np.bincount(source.labels[split], minlength=len(classes)) for split in data.SPLITS}
    shown = min(len(classes), 12)
    pixels = source.pixels("train", min(len(source.labels["train"]), SAMPLES * len(classes)))
    labels = source.labels["train"][: len(pixels)]
    longest = max(int(counts["train"].max()), 1)
    tiles = []
    for place in range(shown):
        train, *rest = (int(counts[split][place]) for split in data.SPLITS)
        text = f"{train:,} train / {' / '.join(f'{n:,} {s}' for n, s in zip(rest, data.SPLITS[1:], strict=True))}"
        images = [pixels[row] for row in np.flatnonzero(labels == place)[:SAMPLES]]
        tiles.append([Words(classes[place], bold=True, size=14), Share(text, train / longest, TEACHER),
                      *([Images(images, 48)] if images else [])])  # fmt: skip
    uneven = counts["train"].max() / max(1, counts["train"].min())
    first, *more = datasheet.sentences(name)
    caption = f"<b>{escape(first)}</b>" + "".join(f"<br>{escape(line)}" for line in more) + "."
    if uneven > 1.5:
        caption += f" The largest class has {uneven:.1f} times the images of the smallest: accuracy will favour it."
    if shown < len(classes):
        caption += f" The first {shown} classes are shown."
    rows = ((name, *(int(counts[split][place]) for split in data.SPLITS)) for place, name in enumerate(classes))
    numbers = as_table(("class", *data.SPLITS), rows)
    alt = f"Images of {shown} classes with the number in each"
    return Drawing([[Tiles(tiles, 300, 600)]], alt, caption, numbers)


def verdict_drawing(study: Study, table: pd.DataFrame) -> Drawing:
    """Accuracy on val by arm, the contrasts, and the answer.

    Args:
        study: from ``custom_study``.
        table: its runs.
    """
    found = own_images.answer(study, table)
    first, *lines = found.lines
    arms, told = list(study.arms), few_seeds(len(study.profile.seeds))
    looks = {arm: plotting.style(arm, row) for row, arm in enumerate(arms)}
    words = {arm: looks[arm]["label"] for arm in arms}
    title = "Accuracy on val" + (f" ({told})" if told else "")
    dots = arms_panel(table, words, looks, METRIC, title, study.bar().get("val_accuracy"))
    rows = [v.contrast.name.replace(" - ", f" {MINUS} ") for v in found.verdicts]
    panel = verdict_panel(found.verdicts, rows, "Against two weak views")
    alt = "Accuracy on val by augmentation, and its difference from two weak views"
    told = f"{escape(found.health)}<br><b>{escape(first)}</b>" + "".join(f"<br>{escape(line)}" for line in lines)
    seeds = ((arm, seed, float(value)) for arm, seed, value in table[["arm", "seed", METRIC]].itertuples(index=False))
    numbers = as_table(("augmentation", "seed", "val accuracy (%)"), seeds)
    return Drawing([[dots, panel]], alt, told, numbers)
