"""Explorers without a browser: controls are moved in plain Python, numbers are held against their formulas."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.special import softmax

from kdlab import widgets
from kdlab.augment import CropFlip
from kdlab.augment.fired import fired
from kdlab.augment.joint import POLICIES
from kdlab.errors import SpecError
from kdlab.losses.base import Batch
from kdlab.losses.kd import KD
from kdlab.models import Outputs
from kdlab.registry import catalogue, create
from kdlab.rng import generator, stream_seed
from kdlab.training import Views
from kdlab.training.layout import ViewName
from kdlab.widgets.augmentation import HIDDEN, STRENGTHS
from kdlab.widgets.charts.tiles import Images, Tiles, Words
from kdlab.widgets.drawing import Drawing
from kdlab.widgets.explorer import Explorer
from kdlab.widgets.pair import make_view
from kdlab.widgets.temperature import soften

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the runs of the trained pair are."""
    return str(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def trained(place):
    """A smoke teacher and student, trained once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDLAB_OUT", place)
        return widgets.trained_pair("smoke", progress=False)


def picture(explorer) -> str:
    return explorer.picture.value


class Counter(Explorer):
    """The smallest explorer: a number that must not be 3 or 4."""

    TITLE, QUESTION, DEFAULTS = "Counter", "How many?", {"number": 1}

    def draw(self):
        if self.settings["number"] == 3:
            raise SpecError("number must not be 3.")
        number = 1 / (self.settings["number"] - 4)
        image = np.full((1, 20, 10), int(100 + 10 * number), np.uint8)
        return Drawing([[Tiles([[Words('a "b"'), Images([image], 20)]])]], f"<{self.settings['number']}>", "words")

    def controls(self):
        import ipywidgets

        return {"number": ipywidgets.IntSlider(self.settings["number"], min=0, max=9, description="number")}


class TestBase:
    def test_a_moved_control_draws_again(self):
        explorer = Counter()
        explorer.widget()
        before = picture(explorer)
        explorer.control["number"].value = 2
        assert explorer.settings == {"number": 2} and picture(explorer) != before

    def test_setting_moves_the_control(self):
        explorer = Counter()
        explorer.widget()
        explorer.set(number=7)
        assert explorer.control["number"].value == 7 and "&lt;7&gt;" in picture(explorer)

    def test_an_error_is_told_in_words_and_the_last_picture_stays(self):
        explorer = Counter()
        explorer.widget()
        good = picture(explorer)
        explorer.control["number"].value = 3
        assert "number must not be 3." in explorer.message.value and 'role="alert"' in explorer.message.value
        assert picture(explorer) == good and "kd-stale" in explorer.picture._dom_classes
        explorer.control["number"].value = 4
        assert "ZeroDivisionError" in explorer.message.value and "Traceback" not in explorer.message.value
        explorer.control["number"].value = 2
        assert explorer.message.value == "" and "kd-stale" not in explorer.picture._dom_classes

    def test_unknown_settings_are_refused_with_the_nearest(self):
        with pytest.raises(SpecError, match="Did you mean 'number'"):
            Counter(numbr=1)
        with pytest.raises(SpecError, match="Did you mean 'number'"):
            Counter().set(nunber=1)

    def test_words_of_others_are_escaped(self):
        html = Counter().draw().html()
        assert 'aria-label="&lt;1&gt;"' in html and "a &quot;b&quot;" in html and 'width="20"' in html
        assert 'alt="&lt;1&gt;"' in Counter().draw().image()

    def test_the_environment_decides_what_is_shown(self, monkeypatch):
        monkeypatch.setenv("KDLAB_INTERACTIVE", "0")
        assert isinstance(Counter().show(), Drawing)
        assert not isinstance(Counter().show(True), Drawing)
        monkeypatch.delenv("KDLAB_INTERACTIVE")
        assert not isinstance(Counter().show(), Drawing)
        assert isinstance(Counter().show(False), Drawing)


def test_the_twin_is_the_picture_of_the_widget(trained):
    for kind in (widgets.AugmentationExplorer, widgets.TemperatureExplorer, widgets.ConfidenceExplorer):
        explorer = kind(trained)
        twin = kind(trained).show(False)
        explorer.widget()
        assert explorer.failure is None
        assert twin.png.startswith(PNG) and twin.html() == picture(explorer), kind


def test_explorers_leave_global_generators_and_pyplot_alone(trained):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    widgets.AugmentationExplorer(trained).draw(), widgets.ConfidenceExplorer(trained).draw()
    assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()
    names = [name for name in widgets.__all__ if name not in ("trained_pair",)]
    script = (
        f"import sys; from kdlab import widgets; [getattr(widgets, n) for n in {names}]; "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class TestAugmentation:
    def test_every_policy_can_be_chosen(self, trained):
        explorer = widgets.AugmentationExplorer(trained, count=8)
        explorer.widget()
        for policy in explorer.control["policy"].options:
            explorer.control["policy"].value = policy
            assert explorer.failure is None, policy
        assert set(explorer.control["policy"].options) == set(catalogue("augment")) - set(HIDDEN)

    def test_strength_goes_to_the_option_of_the_policy(self, trained):
        explorer = widgets.AugmentationExplorer(trained, count=8)
        explorer.widget()
        for policy, strength in STRENGTHS.items():
            explorer.set(policy=policy)
            assert explorer.control["strength"].value == pytest.approx(strength.default), policy
            explorer.control["strength"].value = strength.high
            assert explorer.options().get(strength.option, strength.default) == strength.high
            assert explorer.failure is None
            default = catalogue("augment")[policy].options[strength.option]
            assert default is None or type(explorer.options()[strength.option]) is type(default)

    def test_views_are_those_of_training(self, trained):
        """The stream of step 0 of an epoch, on the same originals, is what Views makes there."""
        train = trained.splits.train.take(torch.arange(12))
        views = Views(train, 3, 0, 12, {})
        views.at(0)
        name = ViewName(("jda", (("policy", "cifar10"),)), 1)
        part = create("augment", "jda", policy="cifar10")
        images, _ = make_view(views.raw, part, "jda", 1, 3, 0)
        assert torch.equal(train.normalise(images), views.view(name).x)

    def test_held_draws_only_gain_operations_as_the_probability_rises(self, trained):
        explorer = widgets.AugmentationExplorer(trained, policy="jda")
        sets = []
        for probability in (0.1, 0.4, 0.8):
            sets.append([set(row) for row in explorer.set(probability=probability).view().fired])
        for weak, strong in zip(sets, sets[1:], strict=False):
            assert all(a <= b for a, b in zip(weak, strong, strict=True)) and weak != strong

    def test_rerolling_and_letting_go_draw_anew(self, trained):
        explorer = widgets.AugmentationExplorer(trained)
        explorer.widget()
        first = explorer.view().fired
        explorer.control["reroll"].click()
        assert explorer.view().fired != first
        explorer.set(draw=0)
        explorer.control["probability"].value = 0.35
        assert explorer.settings["draw"] == 0
        explorer.control["hold"].value = False
        explorer.control["probability"].value = 0.4
        assert explorer.settings["draw"] == 1

    def test_flips_are_counted_as_the_teacher_sees_them(self, trained):
        explorer = widgets.AugmentationExplorer(trained, probability=0.9)
        view = explorer.view()
        choice = [trained.logits("teacher", x).argmax(1) for x in (view.originals, view.images)]
        flips = int((choice[0] != choice[1]).sum())
        assert 0 < flips and f"<b>{flips} of 16</b>" in explorer.draw().caption

    def test_weak_alone_shows_the_crop(self, trained):
        view = widgets.AugmentationExplorer(trained, policy="weak", weak=False).view()
        assert torch.equal(view.originals, view.images)
        crop = CropFlip()
        drawn = crop.draw(16, (1, 28, 28), generator(stream_seed(0, "student", 0), "weak/1", 0))
        moved = widgets.AugmentationExplorer(trained, policy="weak").view().images
        assert torch.equal(moved, crop.apply(view.originals, drawn))


@pytest.mark.parametrize(
    "policy", ["jda", "randaugment", "autoaugment", "trivialaugment", "invert", "rotation", "mixup"]
)
def test_what_fired_is_what_changed(policy):
    """Rows where nothing fired are untouched; a chain without a step that fired in a row changes nothing in it."""
    images = torch.randint(256, (64, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    part = create("augment", policy)
    params = part.draw(64, (3, 32, 32), generator(0, policy))
    words = fired(part, params, policy)
    assert len(words) == 64
    changed = (part.apply(images, params) != images).flatten(1).any(1).tolist()
    assert not any(c for c, w in zip(changed, words, strict=True) if not w)
    if policy == "jda":
        dead = {"posterize", "shearY"}  # index 0 in the CIFAR-100 policy
        assert not dead & {w for row in words for w in row}
        names = [name for name, _ in POLICIES["cifar100"][1]]
        expected = params["fired"].sum(1) - params["fired"][:, [names.index(d) for d in dead]].sum(1)
        assert [len(row) for row in words] == expected.tolist()


class TestTemperature:
    def test_numbers_are_those_of_the_formulas(self):
        rng = np.random.default_rng(0)
        t, s = rng.normal(size=(2, 7)) * 3
        for temperature in (0.5, 1.0, 4.0, 20.0):
            found = soften(t, s, temperature)
            p, q = softmax(t / temperature), softmax(s / temperature)
            assert found.entropy == pytest.approx(-(p * np.log(p)).sum())
            assert found.kl == pytest.approx((p * np.log(p / q)).sum())
            z = torch.tensor(s, requires_grad=True)
            torch.nn.functional.kl_div((z / temperature).log_softmax(0), torch.tensor(p), reduction="sum").backward()
            assert found.gradient == pytest.approx(float(z.grad.norm()))

    def test_the_words_carry_them(self, trained):
        explorer = widgets.TemperatureExplorer(trained, image=5)
        explorer.widget()
        explorer.control["temperature"].value = 2.0
        now = soften(*explorer.logits(), 2.0)
        assert f"{now.kl:.3f} nats, times T² {4 * now.kl:.3f}" in picture(explorer)
        before = picture(explorer)
        explorer.control["other"].click()
        assert explorer.settings["image"] == 6 and picture(explorer) != before
        explorer.control["reset"].click()
        assert explorer.settings["temperature"] == 4.0

    def test_out_of_range_is_refused(self, trained):
        with pytest.raises(SpecError, match="temperature must be a number in"):
            widgets.TemperatureExplorer(trained, temperature=50.0).draw()
        with pytest.raises(SpecError, match=r"image must be an integer in \[0, 199\], but got 200"):
            widgets.TemperatureExplorer(trained, image=200).draw()
        with pytest.raises(SpecError, match="temperature must be a positive, finite number, but got 0"):
            soften(np.zeros(2), np.zeros(2), 0)


class TestConfidence:
    def test_weights_are_one_plus_cosine_sorted(self, trained):
        pairs = widgets.ConfidenceExplorer(trained, count=40).pairs()
        a, b = pairs.teacher.double().numpy()
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        np.testing.assert_allclose(pairs.weight, 1 + cosine, rtol=1e-5)
        assert (np.diff(pairs.weight) >= 0).all()
        np.testing.assert_allclose(a, trained.logits("teacher", pairs.first), rtol=1e-4, atol=1e-5)
        assert torch.equal(pairs.labels, trained.splits.val.labels[pairs.number])

    def test_normalised_weights_have_mean_one(self, trained):
        pairs = widgets.ConfidenceExplorer(trained, weighting="normalised").pairs()
        assert float(pairs.weight.mean()) == pytest.approx(1, abs=1e-5)

    def test_the_push_is_the_gradient_of_the_loss(self, trained):
        """T^2 KL pushes a row's logits by T (p_t - p_s)."""
        pairs = widgets.ConfidenceExplorer(trained, count=8).pairs()
        teacher, student = pairs.teacher[1], pairs.student[1].clone().requires_grad_()
        batch = Batch.of(pairs.labels)
        KD(temperature=3.0).rows(Outputs(student, (), student), Outputs(teacher, (), teacher), batch)[
            "kd"
        ].sum().backward()
        push = 3.0 * ((teacher / 3.0).softmax(1) - (student / 3.0).softmax(1)).detach()
        torch.testing.assert_close(-student.grad, push, rtol=1e-4, atol=1e-6)

    def test_the_place_slider_chooses_the_pair(self, trained):
        explorer = widgets.ConfidenceExplorer(trained)
        explorer.widget()
        pairs = explorer.pairs()
        for place, row in ((0, 0), (100, len(pairs.weight) - 1)):
            explorer.set(place=place)
            assert f"w = 1 + cos = {pairs.weight[row]:.2f}" in picture(explorer)
        assert explorer.pairs() is pairs, "moving along the pairs asks no network again"


def test_the_trained_pair_is_shared_and_comes_from_the_store(trained, place, capsys, monkeypatch):
    monkeypatch.setenv("KDLAB_OUT", place)
    monkeypatch.setenv("KDLAB_PROFILE", "smoke")
    assert widgets.trained_pair() is trained and capsys.readouterr().out == ""
    assert trained.specs["student"].teacher == trained.specs["teacher"]
    images = trained.splits.val.images[:9]
    with torch.no_grad():
        expected = trained.teacher(trained.splits.train.normalise(images))
    torch.testing.assert_close(trained.logits("teacher", images), expected)
    assert not trained.teacher.training
