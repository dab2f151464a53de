"""What is told before anything trains: a linear model, what was read, a picture of it, and how much memory it takes."""

import json
import os
import subprocess
import sys
import threading
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.optimize import check_grad, minimize
from scipy.special import logsumexp
from scipy.stats import binom

from kdlab import data, lab, metrics, perspectives
from kdlab.data.source import Source, carve
from kdlab.errors import SpecError
from kdlab.lab import baseline, datasheet, memory
from kdlab.lab.planned import planned
from kdlab.lab.store import Store
from kdlab.metrics import linear
from kdlab.models import build
from kdlab.plotting import contact
from kdlab.plotting.contact import contact_sheet
from kdlab.registry import catalogue
from kdlab.spec import Budget, RunSpec

SIZES = (320, 200, 500)
SPEC = RunSpec(sizes=SIZES, model="resnet8_s2_w4", budget=Budget(2, "steps", 32))


def shapes(root, counts=None, side=12):
    """A folder of grey images, one sub-folder a class: upright or lying bars, which pixels alone tell apart."""
    draw = np.random.default_rng(0)
    for name, count in (counts or {"lying": 40, "upright": 40}).items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            image = draw.integers(0, 60, (side, side), dtype=np.uint8)
            place = draw.integers(2, 10)
            image[place - 2 : place] = 200
            Image.fromarray(image if name == "lying" else np.ascontiguousarray(image.T)).save(
                root / name / f"{number}.png"
            )
    return root


def source(labels, shape=(1, 8, 8), classes=None, **facts):
    """A Source whose images hold their row in every pixel."""
    labels = {split: np.asarray(values) for split, values in labels.items()}
    names = classes or tuple(f"c{k}" for k in range(1 + max(int(v.max()) for v in labels.values())))
    rows = {split: np.arange(len(values)) for split, values in labels.items()}

    def pixels(split, n):
        return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, *shape)).copy()

    return Source(names, shape, labels, rows, pixels, **facts)


# --- the fit ------------------------------------------------------------------------------------------------------


def blobs(rows=300, classes=3, spread=60.0, seed=0):
    """Images of noise about one image for each class, and labels."""
    draw = np.random.default_rng(seed)
    centres, labels = draw.integers(60, 190, (classes, 1, 4, 5)), np.arange(rows) % classes
    images = np.clip(centres[labels] + draw.normal(0, spread, (rows, 1, 4, 5)), 0, 255).astype(np.uint8)
    return images, labels


def test_the_gradient_is_that_of_the_loss():
    images, labels = blobs(40)
    x = images.reshape(40, -1) / 255.0
    weights = np.random.default_rng(1).normal(size=(21, 3))

    def value(flat):
        return linear.loss(flat.reshape(21, 3), x, labels, 0.3)[0]

    def slope(flat):
        return linear.loss(flat.reshape(21, 3), x, labels, 0.3)[1].ravel()

    assert check_grad(value, slope, weights.ravel()) < 1e-5
    scores = x @ weights[:20] + weights[20]
    by_hand = (logsumexp(scores, axis=1) - scores[range(40), labels]).mean() + 0.15 * np.square(weights[:20]).sum()
    assert value(weights.ravel()) == pytest.approx(by_hand, rel=1e-12)


def test_the_fit_is_the_minimum_of_an_independent_restatement():
    images, labels = blobs()
    model = linear.fit(images, labels, 3)
    pixels = images.reshape(300, -1) / 255.0
    x = (pixels - pixels.mean(0)) / pixels.std(0)  # none of these pixels hardly ever changes

    def penalised(flat):
        scores = x @ flat[:60].reshape(20, 3) + flat[60:]
        own = np.take_along_axis(scores, labels[:, None], 1)[:, 0]
        return (logsumexp(scores, axis=1) - own).mean() + model.penalty / 2 * (flat[:60] ** 2).sum()

    best = minimize(penalised, np.zeros(63), method="BFGS", options={"gtol": 1e-6})
    assert penalised(model.weights.ravel()) == pytest.approx(best.fun, abs=2e-4)
    theirs = x @ best.x[:60].reshape(20, 3) + best.x[60:]
    centred = model.logits(images) - model.logits(images).mean(1, keepdims=True)
    assert np.abs(centred - (theirs - theirs.mean(1, keepdims=True))).max() < 0.15
    assert metrics.accuracy(model.logits(images), labels) == pytest.approx(metrics.accuracy(theirs, labels), abs=0.01)


def test_the_penalty_is_the_one_that_a_fifth_of_train_prefers():
    images, labels = blobs(400, spread=110.0)
    x = images.reshape(400, -1) / 255.0
    x = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
    kept, held = carve(labels, 0.2)
    told = {}
    for penalty in linear.PENALTIES:
        weights = linear.minimise(x[kept], labels[kept], 3, penalty)
        told[penalty] = metrics.nll(x[held] @ weights[:-1] + weights[-1], labels[held])
    assert linear.fit(images, labels, 3).penalty == min(told, key=told.get) not in (0.001, 3.0)


def test_separable_classes_are_told_apart_and_shuffled_labels_are_not():
    images, labels = blobs(600, spread=10.0)
    unseen, truth = blobs(600, spread=10.0)
    model = linear.fit(images, labels, 3)
    assert metrics.accuracy(model.logits(unseen), truth) == 1
    shuffled = np.random.default_rng(3).permutation(labels)
    blind = metrics.accuracy(linear.fit(images, shuffled, 3).logits(unseen), truth)
    assert metrics.chance_p(round(600 * blind), 600, 1 / 3) > 1e-6
    assert (linear.fit(images, labels, 3).weights == model.weights).all()  # the same again, bit for bit


def test_constant_images_and_classes_of_one_image_end_well():
    model = linear.fit(np.full((6, 3, 4, 4), 7, np.uint8), np.array([0, 1] * 3), 2)
    assert np.isfinite(model.logits(np.zeros((2, 3, 4, 4), np.uint8))).all()
    one_each = linear.fit(np.stack([np.zeros((1, 4, 4)), np.full((1, 4, 4), 200)]).astype(np.uint8), np.arange(2), 2)
    assert one_each.penalty == max(linear.PENALTIES) and np.isfinite(one_each.weights).all()


@pytest.mark.parametrize(
    ("shape", "side"), [((1, 28, 28), 1), ((1, 32, 32), 1), ((3, 32, 32), 2), ((3, 45, 64), 3), ((1, 33, 40), 2)]
)
def test_large_images_are_averaged_over_blocks(shape, side):
    images = np.random.default_rng(0).integers(0, 256, (300, *shape), dtype=np.uint8)
    found = linear.block_means(images)
    assert found.shape[1] <= linear.MOST_NUMBERS and found.dtype == np.float32
    channels, height, width = shape
    corners = [(c, y, x) for c in range(channels) for y in range(0, height, side) for x in range(0, width, side)]
    for row in (0, 299):
        means = [images[row, c, y : y + side, x : x + side].mean() / 255 for c, y, x in corners]
        assert np.allclose(found[row], means, atol=1e-6)


def test_a_large_set_is_thinned_in_its_own_proportions():
    labels = np.array([0] * 900 + [1] * 90 + [2])
    rows = linear.capped_rows(labels, 100)
    assert np.bincount(labels[rows]).tolist() == [91, 9, 1]
    assert rows[[0, 91, 100]].tolist() == [0, 900, 990]
    assert linear.capped_rows(labels).tolist() == list(range(991))


def test_the_p_of_chance_is_that_of_the_binomial_test():
    for right in range(101):
        exact = sum(binom.pmf(k, 100, 0.3) for k in range(right, 101))
        assert metrics.chance_p(right, 100, 0.3) == pytest.approx(exact, abs=1e-12)


# --- kept like a run ----------------------------------------------------------------------------------------------


@pytest.fixture
def fits(monkeypatch):
    """Counts how often a model is fitted."""
    counted, fit = [], linear.fit
    monkeypatch.setattr(linear, "fit", lambda *given: counted.append(given) or fit(*given))
    return counted


def test_the_bundled_data_s_linear_model():
    found = lab.linear("fashion", SIZES)
    train, val, test = data.load("fashion", sizes=SIZES)
    model = linear.fit(train.images.numpy(), train.labels.numpy(), 10)
    for split, images in (("val", val), ("test", test)):
        logits = model.logits(images.images.numpy())
        assert found[f"{split}_accuracy"] == 100 * metrics.accuracy(logits, images.labels)
        assert found[f"{split}_nll"] == metrics.nll(logits, images.labels)
        assert found[f"{split}_ece"] == metrics.calibration_error(logits, images.labels)
        assert found[f"{split}_share"] == 10
    assert 70 < found["val_accuracy"] < 85 and found["above_chance"] and found["images"] == 320
    assert len(found["environment"]["digest"]) == 8 and found["environment"]["numpy"] == np.__version__


def test_a_linear_model_is_fitted_once(fits):
    first = lab.linear("fashion", SIZES)
    assert lab.linear("fashion", SIZES) == lab.linear("fashion", list(SIZES)) == first and len(fits) == 1
    assert lab.linear("fashion", (300, 200, 500)) != first and len(fits) == 2
    assert Store().keys() == [] and Store().begun() == set()
    threads = [threading.Thread(target=lab.linear, args=("fashion", (100, 100, 100))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fits) == 3


def test_the_revision_and_the_data_decide_where_it_is_kept(monkeypatch, tmp_path):
    key = baseline.linear_key("fashion", SIZES)
    assert key == baseline.linear_key("fashion", SIZES) != baseline.linear_key("fashion")
    assert baseline.linear_key("fashion") == baseline.linear_key("fashion", (12000, 2000, 10000))
    first, other = (f"folder:{shapes(tmp_path / name, dict(lying=n, upright=9))}" for name, n in (("a", 9), ("b", 10)))
    assert baseline.linear_key(first) != baseline.linear_key(other)
    monkeypatch.setattr(linear, "REVISION", linear.REVISION + 1)
    assert baseline.linear_key("fashion", SIZES) != key


@pytest.mark.parametrize("damage", ["", "{}", "null", '{"document": {"val_accuracy": 99}, "sha256": "0"}', "\xff"])
def test_a_damaged_file_is_set_aside_and_fitted_again(fits, damage):
    found = lab.linear("fashion", SIZES)
    file = Store().root / ".linear" / f"{baseline.linear_key('fashion', SIZES)}.json"
    file.write_bytes(damage.encode("latin1"))
    assert baseline.fitted("fashion", SIZES) is None
    again = lab.linear("fashion", SIZES)
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in found.items() if k != "seconds"}
    [aside] = (Store().root / ".damaged").iterdir()
    assert len(fits) == 2 and aside.read_bytes() == damage.encode("latin1")
    changed = json.loads(file.read_text())
    changed["document"]["val_accuracy"] = 99.0
    file.write_text(json.dumps(changed))
    assert Store().get(f".linear/{file.stem}") is None


def test_several_processes_fit_once():
    script = """
from kdlab import lab
from kdlab.metrics import linear
calls, fit = [], linear.fit
linear.fit = lambda *given: calls.append(given) or fit(*given)
print(lab.linear("fashion", (2000, 200, 500))["val_accuracy"], len(calls))
"""
    command = [sys.executable, "-c", script]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = [process.communicate(timeout=120)[0].split() for process in started]
    assert len({accuracy for accuracy, _ in told}) == 1 and sum(int(calls) for _, calls in told) == 1


def test_sizes_that_the_data_cannot_fill_are_refused():
    with pytest.raises(SpecError, match="sizes: val must be between 1 and 2000, but got 2001"):
        lab.linear("fashion", (320, 2001, 500))
    assert not (Store().root / ".linear").exists() and Store().begun() == set()


# --- in words -----------------------------------------------------------------------------------------------------


def test_a_folder_in_words(tmp_path):
    name = f"folder:{shapes(tmp_path / 'bars', {'lying': 120, 'upright': 60})}"
    first, counts, chance = datasheet.sentences(name)
    labels = data.describe(name).labels
    numbers = {split: np.bincount(values) for split, values in labels.items()}
    assert first == "2 classes, grey images of 12 x 12 pixels"
    assert counts == ", ".join(f"{s} {n.sum()} (lying {n[0]}, upright {n[1]})" for s, n in numbers.items())
    assert chance == "a linear model has not been fitted yet; the largest class (lying) is 68.8 % of val"
    assert datasheet.sentences(name, fit=True)[-1].startswith("a linear model on the pixels reaches 100.0 % on val; ")
    assert datasheet.text(name).splitlines()[-1] == "  " + datasheet.sentences(name)[-1]


def test_counts_left_out_same_images_and_notes_are_told():
    labels = {"train": [0] * 1200 + [1] * 5 + [2] * 7, "val": [0, 1, 2, 0], "test": [0, 1, 2]}
    facts = {"left_out": {"hidden images": 1200, "pages": 3}, "same": {"left out of train, also in test": 4},
             "notes": ("16-bit grey, scaled by 65535",)}  # fmt: skip
    odd = source(labels, (3, 8, 9), ("a", "b", "c"), **facts)
    assert datasheet.heading(odd) == "3 classes, colour images of 9 x 8 pixels"
    assert datasheet.images(odd, {"train": 1212, "val": 3, "test": 3}) == (
        "train 1,212 (a 1,200, ...b 5), val 3 of 4 (1 a class), test 3 (1 a class)"
    )
    assert (
        datasheet.images(odd, {"train": 1212, "val": 4, "test": 3}).split(", val ")[1].startswith("4 (1 or 2 a class)")
    )
    assert datasheet.remarks(odd) == [
        "left out: 1,200 hidden images; 3 pages", "same images: 4 left out of train, also in test",
        "16-bit grey, scaled by 65535",
    ]  # fmt: skip


def test_chance_is_said_plainly(monkeypatch):
    even = source({"train": [0, 1] * 50, "val": [0, 1] * 50, "test": [0, 1]})
    kept = {"train": 100, "val": 100, "test": 2}

    def words(accuracy, above, source=even):
        monkeypatch.setattr(baseline, "fitted", lambda *given: {"val_accuracy": accuracy, "above_chance": above})
        return datasheet._linear_text("x", None, source, kept, None, False)

    share = "the largest class is 50.0 % of val"
    assert words(81.25, True) == f"a linear model on the pixels reaches 81.2 % on val; {share}"
    assert (
        words(52.0, False) == f"a linear model is not above chance: 52.0 % on val (52 of 100, tested at 1 %); {share}"
    )
    few = source({"train": [0, 1], "val": [0, 1, 1, 1], "test": [0, 1]})
    too_few = "4 images are too few to tell that from chance; the largest class (c1) is 75.0 % of val"
    assert words(100.0, False, few) == f"a linear model on the pixels reaches 100.0 % on val, but {too_few}"


def test_long_class_names_are_wrapped():
    names = tuple(f"{k}-{'very-' * 20}long" for k in range(2))
    wide = source({"train": [0, 0, 0, 1], "val": [0, 1], "test": [0, 1]}, classes=names)
    lines = datasheet._wrapped("  " + datasheet.images(wide, {"train": 4, "val": 2, "test": 2}))
    assert " ".join(" ".join(lines).split()) == datasheet.images(wide, {"train": 4, "val": 2, "test": 2})
    assert all(len(line) <= datasheet.WIDTH or names[0] in line or names[1] in line for line in lines)


def test_a_plan_tells_what_was_read_and_writes_nothing(fits):
    lines = lab.plan([SPEC]).describe().splitlines()
    assert lines[:3] == datasheet.text("fashion", SIZES).splitlines() and "not been fitted yet" in lines[2]
    assert lines[3] == "1 runs: 0 in the store, 1 to train" and not Store().root.exists() and not fits
    lab.linear("fashion", SIZES)
    assert "reaches" in lab.plan([SPEC]).describe().splitlines()[2]


def test_data_sets_are_told_once_each():
    other = SPEC.replace(sizes=(100, 100, 100))
    told = lab.plan([SPEC, SPEC.at_seed(1), other]).describe().splitlines()
    assert [line.split(" (")[0] for line in told if line.startswith("  train")] == [
        "  train 320 of 12,000", "  train 100 of 12,000",
    ]  # fmt: skip


def test_a_run_begins_with_what_was_read(capsys):
    lab.run([SPEC], workers=0)
    out = capsys.readouterr().out
    assert out.startswith(datasheet.text("fashion", SIZES) + "\n1 runs: ") and "reaches" in out
    lab.run([SPEC], workers=0)
    assert capsys.readouterr().out == out.split("\n1 runs")[0] + "\nnothing to train: all 1 runs are in the store.\n"


def test_a_store_that_cannot_be_written_still_tells(monkeypatch):
    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    told = " ".join(datasheet.text("fashion", SIZES, fit=True).split())
    assert "a linear model could not be kept (cannot write to " in told
    assert "No space left on device); the largest class is 10.0 % of val" in told


def test_telling_needs_no_torch():
    script = f"import sys; from kdlab.lab import datasheet; print(datasheet.text('fashion', {SIZES}, fit=True))\n"
    script += "assert not {'torch', 'matplotlib'} & set(sys.modules), sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "a linear model on the pixels reaches" in done.stdout, done.stderr


# --- the contact sheet --------------------------------------------------------------------------------------------


def texts(monkeypatch) -> list:
    """What will be written on the page: (x, y), words and font of each text."""
    written, pen = [], contact.ImageDraw.ImageDraw
    text = pen.text

    def write(self, at, words, **how):
        written.append((at, words, how["font"]))
        text(self, at, words, **how)

    monkeypatch.setattr(pen, "text", write)
    return written


def opened(page: bytes) -> Image.Image:
    return Image.open(BytesIO(page)).convert("RGB")


def test_a_contact_sheet_shows_images_of_each_class_and_split():
    labels = {"train": [0, 1] * 20, "val": [0, 1] * 2, "test": [1, 0]}
    plain = source(labels)

    def coloured(split, n):
        """Each split and row has a grey of its own."""
        start = {"train": 10, "val": 100, "test": 200}[split]
        return np.broadcast_to((start + np.arange(n, dtype=np.uint8))[:, None, None, None], (n, 1, 8, 8)).copy()

    page = np.asarray(opened(contact_sheet(Source(plain.classes, plain.shape, plain.labels, plain.rows, coloured),
                                           ["bars", "two classes"])))  # fmt: skip
    grey = (page == page[..., :1]).all(2)
    sides = {value: int((grey & (page[..., 0] == value)).sum()) for value in range(256)}
    shown = {value for value, pixels in sides.items() if pixels >= 0.98 * contact.SIDE**2} - {255}
    assert shown == {*range(10, 22), *range(100, 104), *range(200, 202)}  # six, three at most, three at most a class


def test_only_what_is_shown_is_decoded():
    asked, plain = {}, source({"train": [0, 1] * 500, "val": [0, 1] * 50, "test": [0, 1] * 50})

    def pixels(split, n):
        asked[split] = n
        return plain.pixels(split, n)

    contact_sheet(Source(plain.classes, plain.shape, plain.labels, plain.rows, pixels), ["many"])
    assert asked == {"train": 12, "val": 6, "test": 6}


@pytest.mark.parametrize(("classes", "said"), [(12, None), (30, "the first 12 of 30 classes; 18 more are not shown")])
def test_more_than_twelve_classes_are_said_and_left_out(monkeypatch, classes, said):
    written = texts(monkeypatch)
    labels = {split: np.arange(2) for split in data.SPLITS}
    page = opened(contact_sheet(source(labels, classes=("n" * 80, "Äpfel/東")), ["w" * 300, "long words " * 40]))
    assert all(x + font.getlength(words) <= page.width for (x, _), words, font in written)
    assert any(words.startswith("nnn") and words.endswith("…") for _, words, _ in written)
    assert sum(words.startswith("long") or words.startswith("words") for _, words, _ in written) > 1


# --- memory and time ----------------------------------------------------------------------------------------------


def test_what_networks_keep_is_as_listed():
    """Tensors that autograd saves, but for the weights, and the widest map."""
    assert set(memory.NETWORKS) <= set(catalogue("models"))
    for name in ("resnet8_s2_w8", "resnet20", "vgg8", "wrn_16_2", "ShuffleV2", "resnet8x4"):
        model = build(name, 10, 3, seed=0)
        own, kept, widest = {p.data_ptr() for p in model.parameters()}, {}, []

        def look(module, given, said, widest=widest):
            widest += [said.numel()] if torch.is_tensor(said) else []

        for module in model.modules():
            module.register_forward_hook(look)

        def keep(tensor, own=own, kept=kept):
            if tensor.data_ptr() not in own:
                kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(torch.zeros(2, 3, 32, 32))
        millions, numbers, width = memory.NETWORKS[name]
        assert millions == pytest.approx(sum(p.numel() for p in model.parameters()) / 1e6, abs=0.06)
        assert numbers == pytest.approx(sum(kept.values()) / 4 / 2 / 1024, rel=0.05)
        assert width == pytest.approx(max(widest) / 2 / 1024, abs=1)


def test_memory_follows_its_formula(monkeypatch):
    facts = {"train": 700, "val": 200, "test": 100, "channels": 3, "size": 64, "classes": 2, "per_class": [350, 350]}
    monkeypatch.setattr(data, "facts", lambda name: facts)
    monkeypatch.setattr(data, "fingerprint", lambda name: "of the photos")
    spec = RunSpec(data="photos", model="resnet20", budget=Budget(1, originals_per_step=16))
    images = 3 * 1000 * 3 * 64 * 64
    alone = memory.PROCESS + images + 12e6 * 0.3 + 8 * 64 * 64 * (16 * (3 + 385) + 200 * (3 + 48))
    assert memory.needed([planned(spec)]) == pytest.approx(alone)
    kd = spec.replace(teacher=spec.replace(model="vgg8"), views=2, method="kd")
    both = memory.PROCESS + images + 12e6 * 0.6 + 4e6 * 3.9 + 8 * 64 * 64 * (32 * (3 + 385) + 200 * (3 + 192))
    assert memory.needed(map(planned, [spec, kd])) == pytest.approx(both)


def test_a_machine_that_is_too_small_is_said(monkeypatch):
    many = [SPEC.at_seed(seed) for seed in range(2)]
    assert "  about 0.6 GB of memory for each worker" in lab.plan(many, workers=2).describe().splitlines()
    monkeypatch.setattr(memory, "machine", lambda: 1e9)
    assert "WARNING" not in lab.plan(many, workers=1).describe()
    said = lab.plan(many, workers=2).describe().splitlines()[-1]
    assert said.startswith("  WARNING: 2 workers need about 1.2 GB, but this machine has 1.0 GB: take fewer workers")
    monkeypatch.setattr(memory, "machine", lambda: 0.5e9)
    assert "WARNING: that is about 0.6 GB" in lab.plan(many, workers=1).describe()


def test_the_machine_s_memory_is_what_it_says(monkeypatch, tmp_path):
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = tmp_path / "limit", tmp_path / "none"
    monkeypatch.setattr(memory, "LIMITS", limits)
    assert memory.machine() == physical
    limits[0].write_text("max\n")
    assert memory.machine() == physical
    limits[0].write_text("123456\n")
    assert memory.machine() == 123456
    monkeypatch.delattr(os, "sysconf")
    limits[0].unlink()
    assert memory.machine() == float("inf")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.01, "1 second"), (1.6, "2 seconds"), (89, "89 seconds"), (90, "1.5 minutes"), (5399, "90.0 minutes"),
     (5400, "1.5 hours"), (3 * 86399, "72.0 hours"), (8.6 * 86400, "8.6 days"), (1000 * 86400, "2.7 years")],
)  # fmt: skip
def test_lengths_of_time(seconds, said):
    assert lab.duration(seconds) == said


def test_what_ends_a_cell_shows_itself_in_a_few_lines(tmp_path):
    """A plan, a study and a set hold thousands of values, which a notebook would print."""
    spec = SPEC.replace(method="kd", teacher=SPEC.replace(role="teacher"))
    plan = lab.plan([spec], store=Store(tmp_path))
    assert repr(plan).startswith("2 runs: 0 in the store, 2 to train") and repr(plan) in plan.describe()
    assert repr(planned(spec)) == f"<PlannedRun {lab.run_key(spec)}: kd, resnet8_s2_w4 on fashion, seed 0>"
    sets = data.load("fashion", sizes=(20, 10, 10))
    assert "train=<ImageSet: 20 images of 1 x 28 x 28, 10 classes>" in repr(sets)
    study = perspectives.study("few_shot", "smoke")
    assert repr(study) == "<Study 'few_shot' of profile 'smoke': 12 arms, 2 seeds, 2 contrasts>"
    shown = [plan, *plan.runs.values(), *plan.cohorts, sets, study, Store(tmp_path), study.profile, spec]
    assert all(len(repr(one)) < 1500 for one in shown)
