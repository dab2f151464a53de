"""An exported run: the printed lines load it in a fresh process, and the file alone teaches."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from kdlab import lab
from kdlab.cli import main
from kdlab.data import load
from kdlab.errors import SpecError
from kdlab.foreign import weightfile
from kdlab.lab.checkpoint import checkpoint
from kdlab.lab.export import export
from kdlab.lab.networks import describe_checkpoints
from kdlab.lab.planned import planned
from kdlab.lab.store import Store
from kdlab.models import build, load_teacher
from kdlab.models.checkpoints import class_names
from kdlab.paths import CHECKOUT
from kdlab.spec import Budget, RunSpec

SMALL = {"sizes": (320, 20, 20), "budget": Budget(2, "steps", 8)}
ZOO = RunSpec(model="resnet8_s2_w4", **SMALL)
MODULE = '''
from torch import nn

class TinyNet(nn.Module):
    """A network of one's own."""
    def __init__(self, num_classes, in_channels, width=4):
        super().__init__()
        self.first, self.second = nn.Conv2d(in_channels, width, 3, 2), nn.Conv2d(width, 2 * width, 3, 2)
        self.last = nn.Linear(2 * width, num_classes)

    def forward(self, x):
        return self.last(self.second(self.first(x).relu()).relu().mean((2, 3)))
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with a model of one's own on the path; gives its options."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mynets.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path / "code")
    yield tmp_path / "code"
    sys.modules.pop("mynets", None)


def trained(spec):
    lab.run([spec], workers=0, progress=False, require_teacher=False)
    return lab.run_key(spec)


def fresh(script, folder, *paths):
    """What a script prints, run in a new process in another directory."""
    paths = os.pathsep.join(map(str, [CHECKOUT, *paths]))
    env = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return json.loads(done.stdout)


def same_logits(printed, images, key, folder, *paths):
    """The printed lines, and load.py, give the logits that the run stored for its test images."""
    np.save(folder / "images.npy", images)
    more = (
        "\nimport json\nimport numpy\n"
        + "print(json.dumps(logits(torch.from_numpy(numpy.load('images.npy'))).tolist()))"
    )
    target = Path(printed.split("\n")[0].removeprefix("exported to "))
    stored = Store().logits(key)["test"]
    assert len(stored) == len(images) > 5
    for script in (printed.partition("\n\n")[2], "from load import logits, torch"):
        found = np.array(fresh(script + more, folder, target, *paths), dtype=np.float32)
        assert np.allclose(found, stored, rtol=1e-4, atol=1e-5)  # those in the store are a frozen network's


MODELS = {
    "zoo": {"model": "resnet8_s2_w4"},
    "torchvision": {
        "model": "torchvision.models:resnet18",
        "model_options": {"taps": ["layer1", "layer2", "layer3"], "embedding": "avgpool"},
    },
    "own": {"model": "mynets:TinyNet", "model_options": {"taps": ["first", "second"], "width": 6}},
}


@pytest.mark.parametrize("kind", MODELS)
def test_the_printed_lines_load_the_run(kind, own, tmp_path):
    spec = ZOO.replace(**MODELS[kind])
    key = trained(spec)
    printed = export(key[:10], tmp_path / "exported")
    assert printed.startswith(f"exported to {tmp_path}/exported/{key}\n\nimport torch\n")
    (tmp_path / "elsewhere").mkdir()
    same_logits(printed, load("fashion", sizes=spec.sizes).test.images.numpy(), key, tmp_path / "elsewhere", own)


@pytest.mark.parametrize("kind", MODELS)
def test_the_exported_file_alone_names_a_teacher(kind, own, tmp_path):
    key = trained(spec := ZOO.replace(**MODELS[kind]))
    export(key, tmp_path / "exported")
    file = tmp_path / "exported" / key / "student.safetensors"
    trusted = spec.model if kind == "own" else None
    teacher = checkpoint("--teacher", str(file), trusted)
    assert (teacher.arch, teacher.options) == (spec.model, dict(spec.model_options))
    test = load("fashion", sizes=spec.sizes).test
    assert class_names(file) == test.classes
    model = load_teacher(teacher.arch, teacher.path, 10, 1, **teacher.options)
    with torch.no_grad():
        found = model(test.normalise(test.images)).numpy()
    assert np.allclose(found, Store().logits(key)["test"], rtol=1e-4, atol=1e-5)


def test_an_exported_file_teaches_without_arch(tmp_path, monkeypatch, capsys):
    key = trained(ZOO.replace(sizes=(1000, 200, 200), budget=Budget(80, "steps", 32)))
    export(key, tmp_path)
    file = tmp_path / key / "student.safetensors"
    words = f"run kd --profile smoke --workers 0 --epochs 0.1 --teacher {file}"
    monkeypatch.setattr(sys, "argv", ["kdlab", *words.split()])
    terminated = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        main()
    signal.signal(signal.SIGTERM, terminated)
    said = capsys.readouterr()
    assert not stop.value.code, said.err
    assert "teacher student.safetensors: 'resnet8_s2_w4' of 10 classes and 1 channel (grey)" in said.out
    [student] = [k for k in Store().keys() if k != key]
    taught = Store().read(student, "spec")["spec"]["teacher"]
    assert (taught["path"], taught["arch"]) == (str(file), "resnet8_s2_w4")


def pictures(root, classes, mode="L"):
    numbers = np.random.default_rng(0)
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(20):
            pixels = numbers.integers(0, 256, (12, 16) if mode == "L" else (12, 16, 3), dtype=np.uint8) // (label + 1)
            Image.fromarray(pixels, mode).save(root / name / f"{i}.png")


def test_what_is_exported_is_what_the_run_had(tmp_path):
    root = tmp_path / "photos"
    pictures(root, ["it's", 'a "bar"', "ü"], "RGB")
    spec = RunSpec(data=f"folder:{root}", model="resnet8_s2_w4", budget=Budget(2, "steps", 8))
    key, splits = trained(spec), load(f"folder:{root}")
    shutil.rmtree(root)
    pictures(root, ["other", "names"])
    printed = export(key, tmp_path / "first")
    shutil.rmtree(root)  # and once more where nothing of it is left
    assert export(key, tmp_path / "first") == printed
    assert "images, uint8 (N, 3, 12, 16)" in printed and repr(splits.train.mean)[1:-1] in printed
    same_logits(printed, splits.test.images.numpy(), key, tmp_path)
    told = weightfile.metadata(tmp_path / "first" / key / "student.safetensors")
    had = Store().read(key, "data")
    assert {name: json.loads(told[name]) for name in had} == had
    assert (
        tuple(had["classes"]) == splits.train.classes == class_names(tmp_path / "first" / key / "student.safetensors")
    )
    assert (had["channels"], had["height"], had["width"]) == (3, 12, 16)
    assert (tuple(had["mean"]), tuple(had["std"])) == (splits.train.mean, splits.train.std)
    names = {path.name for path in (tmp_path / "first" / key).iterdir()} - {"__pycache__"}  # load.py has run there
    assert names == {"spec.json", "result.json", "student.safetensors", "load.py"}


def test_an_older_run_tells_what_its_weights_tell(tmp_path):
    key = trained(ZOO)
    folder = Store().root / key
    (folder / "data.json").unlink()
    done = json.loads((folder / "done.json").read_text())
    del done["sha256"]["data.json"]
    (folder / "done.json").write_text(json.dumps(done))
    printed = export(key, tmp_path)
    assert "recorded neither class names nor normalisation" in printed and "student.safetensors', 10, 1)" in printed
    assert fresh(printed.partition("\n\n")[2] + "\nprint(model.training * 1)", tmp_path) == 0
    assert class_names(tmp_path / key / "student.safetensors") is None


def test_where_the_method_answers_it_is_said(tmp_path):
    teacher = ZOO.replace(model="resnet8_s2_w8")
    key = trained(ZOO.replace(method="simkd", teacher=teacher))
    printed = export(key, tmp_path)
    assert "# the accuracy is that of simkd, whose part (method.safetensors) is needed" in printed
    assert (tmp_path / key / "method.safetensors").exists()


def test_a_damaged_run_is_not_exported(tmp_path):
    key = trained(ZOO)
    (Store().root / key / "student.safetensors").write_bytes(b"")
    with pytest.raises(SpecError, match=f"run {key} was not exported, since student.safetensors"):
        export(key, tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_a_teacher_of_another_normalisation_is_told(tmp_path, shift):
    """It sees images as its student does; the plan says so where its file was trained on other numbers."""
    train = load("fashion", sizes=ZOO.sizes).train
    file = tmp_path / "teacher.safetensors"
    rule = {"mean": json.dumps([train.mean[0] + shift]), "std": json.dumps(list(train.std))}
    save_file(build(ZOO.model, 10, 1, seed=0).state_dict(), file, {"arch": ZOO.model, **rule})
    [said] = describe_checkpoints([planned(ZOO.replace(method="kd", teacher=checkpoint("--teacher", str(file))))])
    words = f"mean and deviation {train.mean[0] + shift:.2f}, {train.std[0]:.2f}; here it sees them normalised by"
    assert (words in said) == bool(shift)
