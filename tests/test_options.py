"""Options of a method: fields of the class, their order and ranges, and constructors written by hand."""

import inspect
from typing import Annotated, ClassVar

import pytest
from examples import example

from kdlab.errors import SpecError, check_number
from kdlab.losses import AT, KD, KDI, LSKD, Losses
from kdlab.losses.base import Count, Method, NonNegative, at_most, cross_entropy_rows
from kdlab.registry import check_options, create, find


class Fields(KD):
    """Redeclares one option of KD, has some of its own, and things that are none."""

    share: Annotated[float, at_most(1, "a share in [0, 1]")] = 0.5
    kd_weight: NonNegative = 2.0
    form: Annotated[str, ("a", "b")] = "a"
    copies: Count = 1
    flag: bool = False
    anything: dict | None = None
    TABLE: ClassVar[dict] = {}
    limit: float
    _hidden: int = 3
    plain = 4


class ByHand(KD):
    """A constructor written out, as in methods of before and of others."""

    weight: float = 7.0

    def __init__(self, weight: float = 1.0, temperature: float = 2.0, *, half: bool = False):
        super().__init__(temperature, kd_weight=0.5)
        self.weight, self.half = check_number("weight", weight), half

    def rows(self, student, teacher, batch):
        return super().rows(student, teacher, batch) | {"own": self.weight * cross_entropy_rows(student.logits, batch)}


class Below(ByHand):
    """Inherits a constructor written by hand."""

    ratio: float = 3.0


class Alone(Method):
    """Nothing of KD's; a loss that is a plain dictionary."""

    def __init__(self, weight=2.0):
        super().__init__()
        self.weight = weight

    def forward(self, student, teacher, batch):
        return {"own": self.weight * batch.mean(cross_entropy_rows(student.logits, batch))}


def parameters(method):
    return {p.name: p.default for p in inspect.signature(method).parameters.values()}


def test_own_options_come_first_and_help_shows_all():
    expected = dict(share=0.5, kd_weight=2.0, form="a", copies=1, flag=False, anything=None, temperature=4.0)
    expected |= dict(ce_weight=1.0, preset=None)
    assert parameters(Fields) == expected and list(parameters(Fields)) == list(expected)
    assert list(parameters(AT)) == ["weight", "temperature", "ce_weight", "kd_weight", "preset"]
    assert list(parameters(KDI)) == ["temperature", "ce_weight", "kd_weight"], "it has no preset"
    assert str(inspect.signature(KDI)).startswith("(temperature: float = 4.5, ce_weight: float = 0.05")
    made = Fields(0.25, copies=3)
    assert (made.share, made.copies, made.kd_weight, made._hidden, made.plain) == (0.25, 3, 2.0, 3, 4)
    assert not hasattr(Fields, "share") and "limit" not in vars(made)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("share", 1.5, r"share must be a share in \[0, 1\], but got 1.5"),
        ("share", -1, "share must be a non-negative, finite number, but got -1"),
        ("temperature", 0, "temperature must be a positive, finite number, but got 0"),
        ("form", "c", r"form must be one of \[a, b\], but got 'c'"),
        ("copies", 0, "copies must be an integer of at least 1, but got 0"),
        ("copies", 1.0, "copies must be an integer of at least 1, but got 1.0"),
        ("flag", "yes", r"flag must be one of \[False, True\], but got 'yes'"),
        ("preset", "cdr", "preset must be one of .*Did you mean 'crd'"),
    ],
)
def test_ranges(option, value, message):
    with pytest.raises(SpecError, match=message):
        Fields(**{option: value})


def test_an_unknown_option_is_a_type_error_here_and_a_named_mistake_in_a_spec():
    with pytest.raises(TypeError, match="'temprature'"):
        KD(temprature=2.0)
    with pytest.raises(SpecError, match="Did you mean 'temperature'"):
        check_options("losses", f"{__name__}:Fields", {"temprature": 2.0})


@pytest.mark.parametrize("name", ["ByHand", "Below"])
def test_a_constructor_written_by_hand_has_its_own_options(name):
    entry = find("losses", f"{__name__}:{name}")
    assert entry.options == {"weight": 1.0, "temperature": 2.0, "half": False}
    made = create("losses", f"{__name__}:{name}", weight=3.0, half=True)
    assert (made.weight, made.half, made.temperature, made.ce_weight, made.kd_weight) == (3.0, True, 2.0, 1.0, 0.5)
    student, teacher, batch = example()
    found = made(student, teacher, batch)
    assert list(found) == ["ce", "kd", "own"] and isinstance(found, Losses)


def test_a_method_of_ones_own_without_anything_of_ours():
    assert create("losses", f"{__name__}:Alone").weight == 2.0 and parameters(Alone) == {"weight": 2.0}
    assert list(Alone(1.0)(*example())) == ["own"]


def test_a_part_may_have_the_name_of_its_option():
    assert isinstance(LSKD(base="kd").base, KD) and "base" in dict(LSKD().named_children())
