"""Which augmentations may change the class that an image shows, by kind of data.

A note is about the label alone. A shoe that lies on its side is still a shoe: that no test image looks so is a
question of distribution, which experiments answer, and gets no note.
"""

from __future__ import annotations

from kdlab.errors import choose
from kdlab.registry import catalogue, kind_word

_MIXED = "two classes by design: the row's own by its share, the partner's by the rest"
_SLEEVES = "hidden sleeves and collars are what tells a shirt from a T-shirt, a pullover and a coat"
_EMPTY = "shifts by up to 32 pixels push everything out of an image of 32 or fewer"
_COARSE = "from a factor of 4 on too few pixels are left to tell similar classes apart"
_SCENES = {"trivialaugment": _EMPTY, "degrade": _COARSE}
_CLOTHES = _SCENES | {"cutout": _SLEEVES, "masking": _SLEEVES}

# By data set; other data (folders) is unknown.
NOTES = {"fashion": _CLOTHES, "fashion-mnist": _CLOTHES, "cifar10": _SCENES, "cifar100": _SCENES}

# For unknown data: what to look at before taking the label for granted.
EFFECTS = {
    "weak": "mirroring",
    "rotation": "quarter turns",
    "rotate": "turns by up to 30 degrees",
    "shearX": "shears by up to 0.3",
    "shearY": "shears by up to 0.3",
    "translateX": "shifts by up to 45 % of the side",
    "translateY": "shifts by up to 45 % of the side",
    "jda": "shifts, turns and inverted colours",
    "randaugment": "shifts, turns and shifted colours",
    "autoaugment": "shifts, turns and inverted colours",
    "trivialaugment": "turns by up to 135 degrees and shifts by up to 32 pixels",
    "color": "other saturation",
    "invert": "inverted colours",
    "solarize": "inverted colours",
    "cutout": "a hidden part",
    "masking": "hidden parts",
    "blur": "lost detail",
    "degrade": "lost detail",
}


def label_safety(data: str, augmentation: str) -> str | None:
    """Why an augmentation may change what the label says.

    >>> label_safety("fashion", "rotation") is None
    True

    Args:
        data: a data set's name.
        augmentation: a registered name or ``module:Class``.

    Returns:
        A short reason; None where no reason is known.

    Raises:
        SpecError: for an unknown augmentation.
    """
    if ":" in augmentation:
        return "foreign code: not known here; look at its images"
    entries = catalogue("augment")
    if entries[choose(kind_word("augment"), augmentation, entries)].mixes:
        return _MIXED
    if data in NOTES:
        return NOTES[data].get(augmentation)
    effect = EFFECTS.get(augmentation)
    return effect and f"unknown data: see whether {effect} may change the class"
