"""The command line: mistakes end with one sentence and exit code 2; the table, compare, doctor."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from test_told import shapes

from kdlab import lab
from kdlab.augment.safety import label_safety
from kdlab.cli import doctor, figures, main, tables
from kdlab.data import data_root
from kdlab.lab import worker
from kdlab.lab.store import Store
from kdlab.paths import home
from kdlab.registry import catalogue, preparations
from kdlab.spec import Budget, RunSpec

TEACHER = RunSpec(sizes=(320, 200, 500), model="resnet8_s2_w4", budget=Budget(4, "steps", 32), role="teacher")
COMMANDS = "figures run runs compare export data methods augmentations tune doctor bench lab".split()
STUDENT = TEACHER.replace(role="student", method="kd", teacher=TEACHER, views=2)


@pytest.fixture
def kdlab(monkeypatch, capsys):
    """Runs a command in this process; gives its exit code, output and errors."""

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["kdlab", *map(str, words)])
        terminated = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as stop:
                main()
        finally:
            signal.signal(signal.SIGTERM, terminated)
        said = capsys.readouterr()
        return stop.value.code or 0, said.out, said.err

    return command


@pytest.fixture
def runs():
    """Two students at two seeds, and their teachers, in the store."""
    specs = [
        spec.at_seed(seed) for spec in (STUDENT, STUDENT.replace(ratio=0.5, augmentation="jda")) for seed in (0, 1)
    ]
    return lab.run([*specs, TEACHER, TEACHER.at_seed(1)], workers=0, progress=False, require_teacher=False)


# --- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("figures ratio_swep", "perspective must be one of .*'ratio_swep'. Did you mean 'ratio_sweep'?"),
        ("figures --profile smok", "profile must be one of .*'smok'. Did you mean 'smoke'?"),
        ("figures --data fashon --profile smoke", "data must be one of .* Did you mean 'fashion'?"),
        ("figures --student resnet8x5 --profile smoke", "model must be one of .* Did you mean 'resnet8x4'?"),
        ("figures --seeds -1", "seeds must .* but got -1"),
        ("figures --seeds 1", "seeds must number at least 2, since an interval needs a spread, but got 1"),
        ("figures --seeds many", "Invalid value for '--seeds'"),
        ("figures few_shot -p sedes=3", "parameter of few_shot must be one of .*'sedes'. Did you mean 'seeds'?"),
        ("figures few_shot -p seeds", "-p must look like key=value, but got 'seeds'"),
        ("figures few_shot --profile smoke --workers -1", "workers must be a non-negative integer, but got -1"),
        ("figures --plann", "No such option"),
        ("figures --device gpu", r"--device must be one of \[cpu, cuda, .*\], but got 'gpu'. Did you mean 'cuda'\?"),
        ("run kd --device cuda9", "--device must be one of .* but got 'cuda9'"),
        ("figurs", "No such command 'figurs'"),
        ("run kdd", "method must be one of .*'kdd'. Did you mean 'kd'?"),
        ("run nowhere:Method", "method 'nowhere:Method': there is no module 'nowhere'"),
        ("run kd --augmentation rotat", "augmentation must be one of .* Did you mean 'rotate'?"),
        ("run kd --views 2 --ratio 0.5", "--ratio 0.5 needs an --augmentation other than weak"),
        ("run kd --augmentation jda --ratio 1.5", r"ratio must be a number in \[0, 1\], but got 1.5"),
        ("run kd --fraction 0", r"fraction must be a number in \(0, 1\], but got 0"),
        ("run kd --views 0", "views must be an integer of at least 1"),
        ("run kd --epochs -2", "--epochs must be a number above 0, but got -2"),
        ("run kd --seed -1", "seed must be a non-negative integer, but got -1"),
        ("run kd --seeds 0", r"seeds must be an integer in \[1, 100\], but got 0"),
        ("figures few_shot --steps 0", "--steps must be a number above 0, but got 0"),
        ("run ccd", "method 'ccd' compares two views of one image, but views=1; use views=2"),
        ("run kd --data folder:nowhere", "nowhere' does not exist"),
        ("run kd --data cifar10", "the data root '/.*/data' .* set KDLAB_DATA"),
        ("run kd --teacher weights.pt --arch resnet20", "teacher checkpoint .*weights.pt does not exist"),
        ("run kd --fraction 0.01", "the training subset has .* fewer than budget.originals_per_step"),
        ("compare 00 11", "no finished run has a key that starts with '00'; `kdlab runs` lists 0"),
        ("export 00", "no finished run has a key that starts with '00'"),
        ("data fashon", "data must be one of .*'fashon'. Did you mean 'fashion'?"),
        ("data folder:nowhere", "the folder '/.*nowhere' does not exist"),
        ("data cifar10", "the data root '/.*/data' .* set KDLAB_DATA"),
        ("data --download", "--download needs the name of the data"),
        ("data folder:photos --download", "data to download must be one of .*cifar10"),
        ("methods kdd", "method must be one of .*'kdd'. Did you mean 'kd'?"),
        ("augmentations rotat", "augmentation must be one of .*'rotat'. Did you mean 'rotate'?"),
        ("augmentations --data fashon", "data must be one of .*'fashon'. Did you mean 'fashion'?"),
        ("tune kd kdd --profile smoke", "method must be one of .*'kdd'. Did you mean 'kd'?"),
        ("tune ce --profile smoke", "method 'ce' has no weight of its own that could be tuned"),
        ("tune ft_paraphraser --profile smoke", "method 'ft_paraphraser' prepares a teacher"),
        ("tune kd --profile smok", "profile must be one of .*'smok'. Did you mean 'smoke'?"),
        ("tune kd --profile smoke --seeds 1,100", "seeds must not be those that profile 'smoke' compares on, .* got 1"),
        ("tune kd --profile smoke --seeds 100", "seeds must number at least 2"),
        ("tune kd --profile smoke --seeds 100,101,100", "seeds must be .* distinct .* but got"),
        ("tune kd --profile smoke --seeds 100;101", "seeds must be numbers like 100,101,102, but got '100;101'"),
        ("tune kd --profile smoke --student resnet14 --keep", "--keep takes a choice made on .* profile 'smoke'"),
        ("lab --share", "--share needs --voila: whoever opens JupyterLab can run anything"),
        ("lab --port 70000", r"port must be an integer in \[1, 65535\], but got 70000"),
        ("lab --port many", "Invalid value for '--port'"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_and_exit_code_2(kdlab, monkeypatch, tmp_path, words, said):
    monkeypatch.chdir(tmp_path)
    profile = [] if "--profile" in words or not words.startswith("run") else ["--profile", "smoke"]
    code, out, err = kdlab(*words.split(), *profile)
    assert code == 2 and re.search(said, " ".join(err.split())) and "Traceback" not in out + err
    assert err.startswith("kdlab: ") and out == ""
    assert not home().exists()


def test_a_failed_notebook_gives_exit_code_1(kdlab, monkeypatch):
    monkeypatch.setattr(figures, "figures", lambda *given, **options: False)
    assert kdlab("figures")[0] == 1
    monkeypatch.setattr(figures, "figures", lambda *given, **options: True)
    assert kdlab("figures")[0] == 0


def test_ctrl_c_gives_exit_code_130(kdlab, monkeypatch):
    def interrupted(*given, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, "train_cohort", interrupted)
    code, out, err = kdlab("run", "kd", "--profile", "smoke", "--workers", 0)
    assert code == 130 and "stopped cleanly" in out and "Traceback" not in err


def test_a_bug_still_shows_its_traceback(kdlab, monkeypatch):
    def broken(*given, **options):
        raise ZeroDivisionError

    monkeypatch.setattr(doctor, "doctor", broken)
    monkeypatch.setattr(sys, "argv", ["kdlab", "doctor"])
    with pytest.raises(ZeroDivisionError):
        main()


# --- commands -----------------------------------------------------------------------------------------------------


def test_help_names_every_command(kdlab):
    code, out, _ = kdlab("--help")
    assert code == 0
    assert all(f"\n  {name} " in out for name in COMMANDS)


def test_a_plan_trains_nothing(kdlab):
    code, out, _ = kdlab("figures", "few_shot", "ratio_sweep", "--profile", "smoke", "--seeds", 3, "--plan")
    assert code == 0 and "in the store" in out and not home().exists()


def test_device_holds_for_a_command_and_what_it_starts(kdlab, monkeypatch):
    monkeypatch.setenv("KDLAB_DEVICE", "cpu")
    words = ("figures", "few_shot", "--profile", "smoke", "--plan")
    assert " on a GPU, 1 process(es), " in kdlab(*words, "--device", "cuda")[1]
    assert os.environ["KDLAB_DEVICE"] == "cpu", "it ends with the command"
    assert " on 1 core(s), " in kdlab(*words, "--device", "cpu")[1]  # smoke trains in this process
    assert " on 3 core(s), " in kdlab(*words, "--device", "cpu", "--workers", 3)[1]


def test_one_distillation_and_its_cache(kdlab):
    words = ["run", "kd", "--profile", "smoke", "--epochs", "0.2", "--augmentation", "jda", "--workers", "0"]
    code, out, _ = kdlab(*words)
    assert code == 0 and "2 runs: 0 in the store, 2 to train" in out
    table = lab.table().set_index("method").loc["kd"]
    assert (table["views"], table["ratio"], table["steps"]) == (2, 0.5, 2)
    assert "nothing to train" in kdlab(*words)[1]


def test_runs_filters_and_writes(kdlab, runs, tmp_path):
    assert len(runs) == 6 and "no finished run matches" in kdlab("runs", "method=ccd")[1]
    code, out, _ = kdlab("runs", "method=kd", "seed=1", "diverged=false")
    assert code == 0 and len(out.splitlines()) == 2 + 2
    assert "... 4 more" in kdlab("runs", "--limit", 2)[1]
    assert kdlab("runs", "--csv", tmp_path / "runs.csv")[1].startswith("6 runs written to ")
    assert pd.read_csv(tmp_path / "runs.csv", index_col="key").index.tolist() == sorted(runs.index)
    assert "Did you mean 'method'" in kdlab("runs", "metod=kd")[2]
    assert "column 'seed' holds numbers, but got 'one'" in kdlab("runs", "seed=one")[2]
    assert "a filter must look like column=value" in kdlab("runs", "kd")[2]
    code, _, err = kdlab("runs", "--csv", tmp_path / "nowhere" / "runs.csv")
    assert code == 2 and "nowhere" in err


def test_compare_tells_fields_and_the_paired_difference(kdlab, runs):
    first, second, *_ = (
        lab.run_key(STUDENT.replace(ratio=r, augmentation=a)) for r, a in ((0.5, "jda"), (0.0, "weak"))
    )
    code, out, _ = kdlab("compare", first[:8], second)
    assert code == 0 and "  ratio: 0.5 | 0.0\n" in out and "  augmentation: jda | weak\n" in out
    assert "seed" not in out.split("\n")[1] and len(out.splitlines()) == 5
    assert out.splitlines()[3].startswith("Health: ")
    difference = runs.groupby("augmentation")["test_accuracy"].mean()
    gain = difference["jda"] - runs[runs["views"] == 2].groupby("augmentation")["test_accuracy"].mean()["weak"]
    assert f"{abs(gain):.2f}" in out
    assert "fits 6 runs" in kdlab("compare", "", first)[2]


def test_doctor_tells_versions_data_disk_and_damage(kdlab, runs):
    (Store().root / runs.index[0] / "spec.json").write_text("{}")
    code, out, _ = kdlab("doctor")
    assert code == 0 and f"torch {torch.__version__.split('+')[0]}" in out
    assert "data fashion: 12000 train, 2000 val, 10000 test, 10 classes" in out and "data cifar10: not here" in out
    assert "kept teacher outputs: 0.00 of at most 2 GB" in out
    assert "store: 5 finished runs, 1 damaged" in out and f"damaged {runs.index[0]}: spec.json" in out


def test_what_was_read_comes_first(kdlab):
    words = "run", "kd", "--profile", "smoke", "--epochs", "0.2", "--workers", "0"
    read = r"""fashion: 10 classes, grey images of 28 x 28 pixels
  train 320 of 12,000 \(32 a class\), val 200 of 2,000 \(20 a class\), test 200 of 10,000 \(20 a class\)
  a linear model on the pixels reaches 7\d.\d % on val; the largest class is 10.0 % of val
"""
    assert re.match(read + "2 runs: 0 in the store, 2 to train\n", kdlab(*words)[1])
    assert re.match(read + "nothing to train: all 2 runs are in the store.\n", kdlab(*words)[1])


def test_data_tells_what_was_read_and_draws_it(kdlab, tmp_path):
    code, out, _ = kdlab("data", f"folder:{shapes(tmp_path / 'shapes')}", "--sheet", tmp_path / "sheets" / "a.png")
    assert code == 0
    assert "2 classes, grey images of 12 x 12 pixels train " in " ".join(out.split())
    assert "\n  a linear model on the pixels reaches 100.0 % on val; the largest class is 50.0 % of val\n" in out
    assert out.endswith(f"\n  contact sheet: {tmp_path / 'sheets' / 'a.png'}\n")
    with Image.open(tmp_path / "sheets" / "a.png") as page:
        assert page.format == "PNG"
    [sheet] = re.findall("contact sheet: (.*)", kdlab("data", f"folder:{tmp_path / 'shapes'}?size=8")[1])
    assert re.fullmatch(r".*/out/data/shapes-[0-9a-f]{8}\.png", sheet) and Path(sheet).exists()
    code, _, err = kdlab("data", f"folder:{tmp_path / 'shapes'}", "--sheet", tmp_path / "shapes")
    assert code == 2 and err.startswith(f"kdlab: cannot write to {tmp_path / 'shapes'}")


def test_data_without_a_name_lists_what_is_here(kdlab):
    code, out, _ = kdlab("data")
    assert code == 0 and "data fashion: 12000 train, 2000 val, 10000 test, 10 classes\n" in out
    assert f"data cifar10: not here; looked under {str(data_root(None))!r}, set KDLAB_DATA to look elsewhere; " in out
    assert "data folder:PATH:" in out


# --- listings -----------------------------------------------------------------------------------------------------


def assert_fits(out):
    """Lines fit the terminal, and no docstring's word is cut."""
    assert max(map(len, out.splitlines())) <= tables.WIDTH
    assert not any(line != line.rstrip() for line in out.splitlines())


def test_methods_are_listed_by_knowledge_and_preparations_apart(kdlab):
    code, out, _ = kdlab("methods")
    assert code == 0 and assert_fits(out) is None
    students, _, prepare = out.partition(f"\n{tables.PREPARING}\n")
    names = set(re.findall(r"^(\w+)  ", prepare, re.MULTILINE))
    assert names == preparations() and {"ft_paraphraser", "hsakd_joint"} <= names
    assert names | set(re.findall(r"^(\w+)  ", students, re.MULTILINE)) - {"name"} == set(catalogue("losses"))
    assert re.search(r"^kd +agnostic +teacher +Cross-entropy plus the divergence", students, re.MULTILINE)
    assert students.index("\nLogits") < students.index("\nkd ") < students.index("\nFeatures") < students.index("\nat ")
    words = set(out.split())
    for entry in catalogue("losses").values():
        assert set(entry.doc.split()) <= words, entry.name


def test_a_method_in_full(kdlab):
    code, out, _ = kdlab("methods", "ft")
    assert code == 0 and assert_fits(out) is None
    assert out.startswith("ft\n\nKD plus") and "\nReference: Kim, Park and Kwak" in out
    assert re.search(r"^prepared: +ft_paraphraser$", out, re.MULTILINE) and re.search(
        r"^  weight +500.0$", out, re.MULTILINE
    )
    assert set(" ".join(catalogue("losses")["ft"].text.split()).split()) <= set(out.split())
    assert "options and defaults:\n  none" in kdlab("methods", "ce")[1]
    assert "A method of one's own." in kdlab("methods", "test_spec:Foreign")[1]


def test_augmentations_tell_options_deeds_and_label_safety(kdlab):
    code, out, _ = kdlab("augmentations")
    assert code == 0 and assert_fits(out) is None and "On " not in out
    words = {word.strip(",") for word in out.split()}
    assert set(catalogue("augment")) <= words
    assert re.search(r"^mixup +mixes +alpha=1.0 +Blend", out, re.MULTILINE)
    code, told, _ = kdlab("augmentations", "--data", "fashion")
    assert code == 0 and assert_fits(told) is None and "On fashion:" in told
    note = label_safety("cifar10", "mixup")
    assert f"On cifar10: {note}" in " ".join(kdlab("augmentations", "mixup", "--data", "cifar10")[1].split())
    assert "On fashion" not in kdlab("augmentations", "invert", "--data", "fashion")[1]
    unknown = " ".join(kdlab("augmentations", "shearX", "--data", "folder:photos")[1].split())
    assert f"On folder:photos: {label_safety('folder:photos', 'shearX')}." in unknown


def test_listings_import_no_torch():
    script = "import sys; from kdlab.cli import tables; tables.methods(); tables.augmentations(None, 'fashion')\n"
    script += "tables.data()\n"
    script += "assert not {'torch', 'pandas', 'matplotlib'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0
