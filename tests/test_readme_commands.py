"""Every command that README and docs/ show, and the Python of docs/, run from a folder that is not the checkout.

As written where it ends in seconds, with ``--plan`` or in smoke where it trains; the others stand
below with the reason.
"""

import functools
import io
import pickle
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdlab import lab
from kdlab.cli import app
from kdlab.lab import merging
from kdlab.models import build
from kdlab.paths import CHECKOUT
from kdlab.report import notebooks
from kdlab.spec import Budget, RunSpec

PAGES = {path.name: path.read_text(encoding="utf-8") for path in (CHECKOUT / "README.md", *CHECKOUT.glob("docs/*.md"))}
TEXT = "\n".join(PAGES.values())
PYTHON = {name: re.findall(r"^```python\n(.*?)^```", text, re.S | re.M) for name, text in PAGES.items()}
BEGINNINGS = ("kdlab ", "make ", "papermill ", "python ", "conda ")

# Command to what is added to it; KEY stands for the key of a finished run.
AS_WRITTEN = [
    "kdlab figures few_shot -p seeds=3", "kdlab methods", "kdlab augmentations --data cifar10", "kdlab run --help",
    "kdlab tune --plan", "kdlab runs", "kdlab compare KEY KEY", "kdlab export KEY", "kdlab doctor",
    "kdlab bench --list", "kdlab figures --profile smoke --plan",
]  # fmt: skip
ADDED = dict.fromkeys(AS_WRITTEN, "") | {
    "kdlab figures": "--plan",
    "kdlab figures ccd": "--plan",
    "kdlab figures when_it_pays": "--plan",
    "kdlab figures --profile standard": "--plan",
    "kdlab figures --profile standard --seeds 7": "--plan",
    "kdlab figures ratio_sweep --seeds 10": "--plan",
    "kdlab figures few_shot -p seeds=3": "--plan",
    "kdlab figures --data folder:photos": "--plan",
    "kdlab figures --data cifar100 --profile full": "--plan",
    "kdlab figures --cluster slurm --workers 16": "--plan",
    "kdlab figures --cluster slurm --workers 64": "--plan",
    "kdlab figures --plan": "",
    "kdlab figures --device cuda": "--plan",
    "kdlab figures --plan --workers 1": "",
    "kdlab figures --teacher resnet32x4 --student resnet8x4": "--plan",
    "kdlab figures --student mymodels:TinyNet": "--plan",
    "kdlab run dkd --augmentation torchvision.transforms.v2:RandomErasing": "--steps 1 --teacher-epochs .1",
    'kdlab run fitnet --student "mymodels:TinyNet?width=8&taps=layer1,layer2"': "--plan",
    "kdlab data folder:photos": "",
    "kdlab data NAME": "",
    "kdlab methods NAME": "",
    "kdlab augmentations --data NAME": "",
    "kdlab run dkd": "--steps 1 --teacher-epochs .1",
    "kdlab run dkd --data folder:photos": "--plan",
    "kdlab run kd --augmentation jda": "--plan",
    "kdlab run kd --data folder:photos --augmentation jda": "--plan",
    "kdlab run kd --data cifar100 --student resnet8x4 --teacher wrn_40_2.pth --arch wrn_40_2": "--plan",
    "kdlab augmentations": "",
    "kdlab augmentations --data folder:photos": "",
    'kdlab figures few_shot -p seeds="[0, 1]"': "--plan",
    'kdlab figures few_shot -p seeds="[2, 3]"': "--plan",
    'kdlab figures few_shot -p seeds="[0, 1, 2, 3]"': "--plan",
    "kdlab runs export mine.csv.xz": "",
    "kdlab runs merge mine.csv.xz": "",
    "kdlab runs verify": "",
    "kdlab runs gc": "",
    "kdlab runs gc --yes": "",
    "papermill notebooks/perspectives/ratio_sweep.ipynb out.ipynb -p profile smoke": "--no-progress-bar",
}  # fmt: skip
ELSEWHERE = {  # pages whose Python another test runs
    "README.md": "tests/test_widgets.py and tests/browser show the explorers",
    "own-loop.md": "tests/test_plain_loop.py runs the loops",
}
PLACES = {"notebooks/perspectives/ratio_sweep.ipynb": str(notebooks.NOTEBOOKS / "ratio_sweep.ipynb")}
NOT_RUN = {
    "kdlab lab": "serves until it is stopped; tests/test_serve.py and tests/browser start it",
    "kdlab lab --voila": "serves until it is stopped; tests/test_serve.py and tests/browser start it",
    "make publish": "writes into the checkout; tests/test_report.py and tests/test_ledger.py publish elsewhere",
    "kdlab advise folder:PATH": "trains for minutes; tests/test_own_images.py asks with a few images",
    "kdlab advise --images 1500 --epochs 80": "needs a drawn map; tests/test_when_it_pays.py asks one",
    "make figures": "sets up, trains and draws for most of an hour; tests/test_setup.py runs make without its recipes",
    "make figures PROFILE=standard": "takes hours",
    "make test": "is what runs this",
    "make lab": "serves until it is stopped",
    "make docs": "installs sphinx and builds for a minute; tests/test_docs.py looks at what it builds from",
    "make": "lists the others; tests/test_setup.py runs it",
    "kdlab bench": "measures for minutes",
    "make readme": "writes into the checkout; tests/test_report.py holds what it writes",
    "make conda-check": "says itself that there is no conda; tests/test_setup.py runs it",
    "conda env create -f environment.yml": "there is no conda; tests/test_setup.py compares the file",
    "conda activate kdlab": "there is no conda",
    "kdlab figures --until decided --at-most 2h": "trains for hours; tests/test_looking.py does so with a stand-in",
    "kdlab data cifar10 --download": "downloads; tests/test_download.py does so from a server of its own",
    "kdlab figures --cluster tcp://HOST:8786": "needs a scheduler; tests/test_cluster.py starts them",
    "kdlab figures --cluster local:4": "starts five processes; tests/test_cluster.py has them in one",
    "make fuzz": "draws odd input for two hours; tests/fuzz does so in short",
    "make faults": "kills sweeps for about an hour; tests/faults does so in short",
    "kdlab runs merge": "takes a file, as it is run above",
    "python benchmarks/gpu.py": "measures for minutes on a GPU; tests/test_gpu.py holds what it measures against",
    "python benchmarks/costs.py": "reads the ledger of a checkout; docs/conf.py runs it when the pages are built",
    "make publish DATA=cifar10": "writes into the checkout; tests/test_report.py publishes elsewhere",
}


def shown() -> list[str]:
    """The commands of the pages: of their ``sh`` blocks, and those between backticks in their text."""
    lines = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.S) for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.S))
    commands = [part.strip() for line in lines for part in re.sub(r" {2,}#.*", "", line).split("&&")]
    return list(dict.fromkeys(c for c in commands if f"{c} ".startswith(BEGINNINGS) and c != "kdlab"))


def test_every_command_is_run_or_said_why_not():
    listed = [*ADDED, *NOT_RUN]
    assert len(shown()) > 20
    assert [c for c in shown() if c not in listed] == [], "run it here, or say why not"
    assert [c for c in AS_WRITTEN if c not in shown()] == [], "no page shows it any more"
    assert not ADDED.keys() & NOT_RUN.keys()


def cifar(root: Path) -> None:
    """The archive of CIFAR-100 with ten images of each class."""
    root.mkdir(parents=True)
    labels = [n for n in range(100) for _ in range(20)]
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    names = {"fine_label_names": [f"class{n:02d}" for n in range(100)]}
    for name, content in {"train": {"data": pixels, "fine_labels": labels},
                          "test": {"data": pixels, "fine_labels": labels}, "meta": names}.items():  # fmt: skip
        (root / name).write_bytes(pickle.dumps(content, protocol=2))


@functools.cache
def published_weights() -> bytes:
    """A torch file as RepDistiller publishes them."""
    file = io.BytesIO()
    torch.save({"model": build("wrn_40_2", 100, 3).state_dict()}, file)
    return file.getvalue()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder with what a reader has: photos, a module, data, a published file of weights."""
    random = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(30):
            pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    (module,) = (block for blocks in PYTHON.values() for block in blocks if block.startswith("# mymodels.py\n"))
    (tmp_path / "mymodels.py").write_text(module)
    (tmp_path / "wrn_40_2.pth").write_bytes(published_weights())
    cifar(tmp_path / "data" / "cifar-100-python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDLAB_DATA", "data")
    monkeypatch.delitem(sys.modules, "mymodels", raising=False)
    return tmp_path


def run(words: list[str], monkeypatch, capsys) -> tuple[int, str]:
    """A command of kdlab in this process: exit code, and all it said."""
    monkeypatch.setattr(sys, "argv", words)
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as stop:
            app.main()
    finally:
        signal.signal(signal.SIGTERM, terminated)
    said = capsys.readouterr()
    return stop.value.code or 0, said.out + said.err


@pytest.mark.parametrize("command", [c for c in ADDED if c.startswith("kdlab")])
def test_runs_from_another_folder(command, elsewhere, monkeypatch, capsys):
    if "KEY" in command or command.startswith("kdlab runs"):
        spec = RunSpec(sizes=(320, 200, 500), model="resnet8_s2_w4", budget=Budget(1, "steps", 32))
        key = lab.run([spec], workers=0, progress=False).index[0]
        monkeypatch.setitem(PLACES, "KEY", key)
    if command.startswith("kdlab runs merge"):
        merging.export(elsewhere / command.split()[-1])
    monkeypatch.setenv("KDLAB_PROFILE", "smoke")
    monkeypatch.setitem(PLACES, "NAME", "fashion" if "data" in command else "dkd")
    words = [PLACES.get(word, word) for word in shlex.split(f"{command} {ADDED[command]}")]
    code, said = run(words, monkeypatch, capsys)
    assert code == 0, said
    assert said.strip() and "Traceback" not in said


@pytest.mark.parametrize("page", [name for name in PYTHON if name not in ELSEWHERE and PYTHON[name]])
def test_the_python_of_a_page_runs_from_another_folder(page, elsewhere):
    """As printed, one block after another."""
    names = {"__name__": "__main__"}
    for block in PYTHON[page]:
        if not block.startswith("# mymodels.py\n"):
            exec(compile(block, page, "exec"), names)
    assert {"table", "train", "network"} & names.keys(), "what the last block makes"


def test_papermill_from_another_folder(elsewhere):
    command = next(c for c in ADDED if c.startswith("papermill"))
    words = [PLACES.get(word, word) for word in shlex.split(f"{command} {ADDED[command]}")]
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, cwd=elsewhere, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "out.ipynb").exists() and "unknown parameter" not in done.stderr
