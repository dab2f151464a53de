"""Networks of one's own: found in the folder one stands in, tried before anything trains, and enough with logits."""

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import nn

from kdlab import lab
from kdlab.errors import SpecError
from kdlab.foreign import join_options, load, split_options
from kdlab.lab import validation
from kdlab.lab.keys import run_key
from kdlab.lab.store import Store
from kdlab.lab.validation import SHOWN, refusal
from kdlab.paths import CHECKOUT
from kdlab.perspectives import compatibility, profile, recipes
from kdlab.registry import catalogue, find, needs
from kdlab.spec import Budget, RunSpec
from kdlab.training import dry_run
from kdlab.widgets import LiveTrainer

LAYERS = """
from torch import nn

class Block(nn.Sequential):
    def __init__(self, inputs, outputs):
        super().__init__(nn.Conv2d(inputs, outputs, 3, 4, 1), nn.BatchNorm2d(outputs), nn.ReLU())
"""
MODELS = """
from torch import nn
from layers import Block

class TinyNet(nn.Module):
    def __init__(self, num_classes, in_channels, width=4):
        super().__init__()
        self.layer1, self.layer2 = Block(in_channels, width), Block(width, 2 * width)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2 * width, num_classes)

    def forward(self, x):
        return self.fc(self.pool(self.layer2(self.layer1(x))).flatten(1))
"""
SIZES = {"sizes": (320, 20, 20), "budget": Budget(2, "steps", 8)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with two modules, in which one stands."""
    place = tmp_path / "mine"
    place.mkdir()
    (place / "layers.py").write_text(LAYERS)
    (place / "mymodels.py").write_text(MODELS)
    (place / "random.py").write_text("raise RuntimeError('hides the standard library')")
    monkeypatch.chdir(place)
    path = list(sys.path)
    yield place
    sys.path[:] = path
    for name in ("mymodels", "layers", "faulty"):
        sys.modules.pop(name, None)


class Plain(nn.Module):
    """Logits and nothing else."""

    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.first, self.last = nn.Conv2d(in_channels, 4, 3, 2), nn.Linear(4, num_classes)

    def forward(self, x):
        return self.last(self.first(x).relu().mean((2, 3)))


PLAIN = f"{__name__}:Plain"


# --- the command line -----------------------------------------------------------------------------------------------


def command(folder, *words):
    """Runs a command in a folder as the console script does, in a process of its own."""
    env = os.environ | {"PYTHONPATH": str(CHECKOUT), "KDLAB_PROFILE": "smoke"}
    env.pop("KDLAB_MODULES", None)
    script = folder.parent / "kdlab-script"  # workers run it again, so it has a guard
    script.write_text("import sys\nfrom kdlab.cli import main\nif __name__ == '__main__':\n    sys.exit(main())\n")
    return subprocess.run([sys.executable, script, *words], cwd=folder, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_kdlab_run_in_the_folder_that_holds_the_module(folder, workers):
    networks = ("--student", "mymodels:TinyNet?width=6&taps=layer1,layer2", "--teacher", "mymodels:TinyNet")
    done = command(folder, "run", "kd", *networks, "--epochs", "0.2", "--workers", workers)
    assert done.returncode == 0, done.stderr
    specs = [Store().read(k, "spec")["spec"] for k in Store().keys()]
    assert sorted(str(s["model_options"]) for s in specs) == ["{'taps': ['layer1', 'layer2'], 'width': 6}", "{}"]
    assert {s["model"] for s in specs} == {"mymodels:TinyNet"}


def test_kdlab_figures_reaches_the_figure(folder):
    done = command(folder, "figures", "joint_augmentation", "--student", "mymodels:TinyNet?width=6", "--workers", "2")
    assert done.returncode == 0, done.stderr
    made = Path(os.environ["KDLAB_OUT"]) / "smoke" / "figures" / "joint_augmentation-arms.json"
    assert "student mymodels:TinyNet?width=6 (" in made.read_text()


def test_mistakes_end_with_one_sentence(folder):
    done = command(folder, "run", "fitnet", "--student", "mymodels:TinyNet", "--workers", "2")
    assert done.returncode == 2 and "Traceback" not in done.stderr and not Store().keys()
    assert "as in 'mymodels:TinyNet?taps=layer1,layer2'. Its layers with maps are layer1, layer1.0" in done.stderr


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mymodels:TinyNett", "mymodels.py has no TinyNett. Did you mean 'mymodels:TinyNet'?"),
        ("mymodel:TinyNet", "no module 'mymodel', neither in {folder} nor installed. Did you mean 'mymodels:TinyNet'?"),
        ("mymodels.py:TinyNet", "must be written module:Class, such as 'mymodels:TinyNet'."),
        ("./mymodels:TinyNet", "must be written module:Class, such as 'mymodels:TinyNet'."),
        ("{folder}/mymodels.py:TinyNet", "must be written module:Class, such as 'mymodels:TinyNet'."),
        ("mymodels:", "must be written module:Class, such as 'mymodels:TinyNet'."),
        ("mymodels.TinyNet", "is not registered. Did you mean 'mymodels:TinyNet'?"),
        ("mymodels.py", "is not registered. Did you mean 'mymodels:TinyNet'?"),
        ("random:Net", "has no Net. It has"),
        ("random:Net", "It hides your own {folder}/random.py, which needs another name."),
        ("mymodels:nn", "must be a class or function that makes one, but it is a module itself."),
    ],
)
def test_a_name_that_is_not_there(folder, name, said):
    with pytest.raises(SpecError) as error:
        find("models", name.format(folder=folder))
    assert said.format(folder=folder) in str(error.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import not_installed_at_all", "(line 2 of {file}) with ModuleNotFoundError: No module named 'not_installed_"),
        ("1 / 0", "importing faulty fails (line 2 of {file}) with ZeroDivisionError: division by zero."),
        ("raise SystemExit('no')", "with SystemExit: no."),
        ("def (", "with SyntaxError: invalid syntax (faulty.py, line 2)"),
    ],
)
def test_a_module_that_raises(folder, source, said):
    (folder / "faulty.py").write_text(f"\n{source}\n")
    with pytest.raises(SpecError) as error:
        find("models", "faulty:Net")
    assert said.format(file=folder / "faulty.py") in str(error.value)


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("resnet20", "resnet20", {}),
        ("m:N?taps=layer1,layer2.0&embedding=pool", "m:N", {"taps": ["layer1", "layer2.0"], "embedding": "pool"}),
        ("m:N?width=8&depth=0.5&norm=none&act=relu&bias=true&sizes=[1, 2]", "m:N",
         {"width": 8, "depth": 0.5, "norm": None, "act": "relu", "bias": True, "sizes": [1, 2]}),
    ],
)  # fmt: skip
def test_options_after_the_name(text, name, options):
    assert split_options(text) == (name, options) and split_options(join_options(name, options)) == (name, options)


@pytest.mark.parametrize("text", ["m:N?", "m:N?width", "m:N?width=", "m:N?=3", "m:N?a=1&&b=2", "m:N?a=1&a=2"])
def test_options_that_cannot_be_read(text):
    with pytest.raises(SpecError, match="after '\\?' stand option=value pairs|gives the option 'a' twice"):
        split_options(text)


# --- source ---------------------------------------------------------------------------------------------------------


def test_the_key_covers_the_module_and_what_it_imports_from_beside_it(folder):
    spec, other = RunSpec(model="mymodels:TinyNet", **SIZES), folder / "unused.py"
    before = run_key(spec)
    other.write_text("A = 1")
    assert run_key(spec) == before
    for file in ("mymodels.py", "layers.py"):
        text = (folder / file).read_text()
        (folder / file).write_text(text + "\nMORE = 1\n")
        assert run_key(spec) != before
        (folder / file).write_text(text)
        assert run_key(spec) == before


def test_an_edited_module_is_imported_anew(folder):
    old = load("model", "mymodels:TinyNet")(10, 1)
    assert old.layer1[0].stride == (4, 4) and load("model", "mymodels:TinyNet") is type(old)
    (folder / "layers.py").write_text(LAYERS.replace("3, 4, 1", "3, 2, 1"))
    assert load("model", "mymodels:TinyNet")(10, 1).layer1[0].stride == (2, 2)


def test_a_plan_whose_source_has_changed_is_not_trained(folder, monkeypatch):
    def edit(specs):
        (folder / "layers.py").write_text(LAYERS.replace("nn.ReLU()", "nn.GELU()"))

    monkeypatch.setattr(dry_run, "dry_run", edit)
    with pytest.raises(SpecError, match="the source of a part changed after run"):
        lab.run([RunSpec(model="mymodels:TinyNet", **SIZES)], workers=0, progress=False)
    assert not Store().keys()


# --- logits are enough ----------------------------------------------------------------------------------------------


def spec_of(method, student=PLAIN, teacher=PLAIN):
    """A method as it runs by itself, for two steps, with two views where it compares views."""
    size = profile("smoke", student=student, teacher=teacher).replace(
        sizes=(320, 20, 20), budget=Budget(2, "steps", 8), teacher_budget=Budget(2, "steps", 8)
    )
    spec = recipes.method(size, method, {})
    return recipes.weak2(spec) if "pairs" in needs(find("losses", method), {}) else spec


def shows_enough(method, networks=("student", "teacher")):
    """Whether the facts of a method say that it reads only logits of the networks."""
    entry = find("losses", method)
    read = {part for part in SHOWN if part in needs(entry, {})}
    return not (read - set(entry.of_teacher) if networks == ("student",) else read)


@pytest.mark.parametrize("method", catalogue("losses"))
def test_logits_are_enough_where_a_method_reads_no_more(method):
    spec = spec_of(method)
    if shows_enough(method):
        table = lab.run([spec], workers=0, progress=False, require_teacher=False)
        assert len(table) == 1 and not table.diverged.any()
        return
    why = refusal(spec) or refusal(spec.teacher)
    assert "?taps=first'. Its layers with maps are first." in why and not Store().keys()


@pytest.mark.parametrize("method", [m for m, e in catalogue("losses").items() if e.of_teacher])
def test_what_is_read_of_the_teacher_alone(method):
    assert shows_enough(method, ("student",)) and not shows_enough(method)
    assert lab.run(
        [spec_of(method, teacher="resnet8_s2_w4")], workers=0, progress=False, require_teacher=False
    ).diverged.tolist() == [False]
    assert "of the teacher" in refusal(spec_of(method, student="resnet8_s2_w4"))


@pytest.mark.parametrize("method", [m for m in catalogue("losses") if not shows_enough(m)])
def test_what_is_refused_could_not_have_run(method, monkeypatch):
    monkeypatch.setattr(validation, "_check_shown", lambda spec, method: None)
    monkeypatch.setattr(dry_run, "dry_run", lambda specs: None)
    with pytest.raises((SpecError, AttributeError, IndexError, TypeError)):
        lab.run(
            [spec_of(method, *([] if shows_enough(method, ("student",)) else [PLAIN]))],
            workers=0,
            progress=False,
            require_teacher=False,
        )


def test_the_grid_hatches_what_cannot_be():
    size = profile("smoke", student=PLAIN)
    assert {name.partition(" ")[0] for name in compatibility.impossible(size)} >= {"fitnet", "sp", "crd"}
    assert all("kd" in name or "ccd" in name for name in compatibility.arms(size))


# --- tried before anything trains -----------------------------------------------------------------------------------


class Two(Plain):
    def forward(self, x):
        return super().forward(x), x


class Maps(Plain):
    def forward(self, x):
        return self.first(x)


class Deaf(Plain):
    def forward(self, x):
        return super().forward(x).detach()


class Rude(Plain):
    def forward(self, x):
        return super().forward(x.mul_(2))


class Lazy(Plain):
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.last = nn.LazyLinear(num_classes)


class Fixed(Plain):
    def __init__(self):
        super().__init__(7, 1)


class Colour(Plain):
    def __init__(self, num_classes):
        super().__init__(num_classes, 3)


class Asks(Plain):
    def __init__(self, num_classes, in_channels):
        raise LookupError("no weights here")


class Deep(Plain):
    def forward(self, x):
        return super().forward(nn.functional.max_pool2d(x, 64))


class Named(Plain):
    """A network with a layer that is called ``outputs``."""

    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.outputs = nn.Linear(num_classes, num_classes)

    def forward(self, x):
        return self.outputs(super().forward(x))


FAULTS = {
    "Two": "must give one tensor of logits, .* but gave a tuple of Tensor, Tensor",
    "Maps": r"but gave a tensor of shape \(2, 4, 13, 13\) and type float32",
    "Deaf": "cannot be trained: its logits depend on no parameter",
    "Rude": "changes the images that it is given",
    "Lazy": "lazy layers",
    "Fixed": r"gives \(2, 7\) for 2 images, but the data's 10 classes need \(2, 10\)",
    "Asks": "cannot be built with num_classes=10, in_channels=1: LookupError: no weights here",
    "Deep": "fails on images of 1 x 28 x 28: RuntimeError",
    "Plain?taps=frist": "Did you mean 'first'",
    "Plain?embedding=last": "needs taps",
    "Plain?depth=3": "option of model",
}


@pytest.mark.parametrize(("who", "fault"), list(product(("student", "teacher"), FAULTS)))
def test_what_is_wrong_is_said_by_the_plan(who, fault):
    with pytest.raises(SpecError, match=FAULTS[fault]):
        lab.plan([spec_of("kd", **{who: f"{__name__}:{fault}"})])


@pytest.mark.parametrize("name", ["Named", "Colour"])
def test_what_is_well_trains(name):
    table = lab.run(
        [spec_of("kd", f"{__name__}:{name}", f"{__name__}:{name}")], workers=0, progress=False, require_teacher=False
    )
    assert not table.diverged.any()


def test_a_final_map_needs_a_classifier_that_reads_its_mean():
    refused = refusal(spec_of("catkd", f"{PLAIN}?taps=first&embedding=first", "resnet8_s2_w4"))
    assert "its last tap must give the map whose mean" in refused
    table = lab.run(
        [spec_of("catkd", f"{__name__}:Rectified?taps=relu", "resnet8_s2_w4")],
        workers=0,
        progress=False,
        require_teacher=False,
    )
    assert not table.diverged.any()


class Rectified(Plain):
    """The mean of its ReLU's output is what the classifier reads."""

    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.last(self.relu(self.first(x)).mean((2, 3)))


def test_registered_parts_that_do_not_fit_are_refused_before_the_teacher_trains():
    with pytest.raises(SpecError, match="the student has 1 maps and the teacher 3"):
        lab.run(
            [spec_of("reviewkd", f"{PLAIN}?taps=first", "resnet8_s2_w4")],
            workers=0,
            progress=False,
            require_teacher=False,
        )
    assert not Store().keys()


def test_a_trial_leaves_the_global_generator_alone():
    state = torch.random.get_rng_state()
    lab.plan([spec_of("kd", f"{__name__}:Dropped")])
    assert torch.equal(state, torch.random.get_rng_state())


class Dropped(Plain):
    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.5, self.training))


# --- explorers ------------------------------------------------------------------------------------------------------


def test_the_trainer_takes_the_same_names(monkeypatch):
    monkeypatch.setenv("KDLAB_PROFILE", "smoke")
    trainer = LiveTrainer(student=f"{PLAIN}?taps=first", method="kd")
    assert trainer.spec().model == PLAIN and trainer.spec().model_options == {"taps": ["first"]}
    trainer.widget()
    trainer.set(student=f"{PLAIN}?taps=frist")
    assert "Did you mean 'first'" in str(trainer.failure)
    trainer.set(student=PLAIN, method="fitnet")
    assert "?taps=first" in str(trainer.failure)
    with pytest.raises(SpecError, match="there is no module"):
        LiveTrainer(student="nowhere_at_all:Net")
