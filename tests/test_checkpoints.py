"""Teachers' files as people save them, and what people have in their place: read, chosen, or refused in words."""

import gzip
import hashlib
import io
import json
import pickle
import re
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch.optim.swa_utils import AveragedModel

from kdlab import lab
from kdlab.cli import main
from kdlab.errors import SpecError
from kdlab.foreign import weightfile
from kdlab.lab.checkpoint import checkpoint
from kdlab.models import build, load_teacher
from kdlab.models.checkpoints import class_names, describe
from kdlab.spec import Budget, Checkpoint, RunSpec

ARCH = "resnet8_s2_w4"
X = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(1))


def network(seed=1, classes=3):
    """A network whose running statistics have moved as well."""
    model = build(ARCH, classes, 1, seed=seed)
    model(torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(seed)))
    return model.eval().requires_grad_(False)


def under(prefix, state):
    return {prefix + name: value for name, value in state.items()}


def named(path, **changes):
    return Checkpoint(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), ARCH, **changes)


def gives(path, model, **options):
    return torch.equal(load_teacher(ARCH, path, **options)(X), model(X))


def saved(content, **options):
    torch.save(content, file := io.BytesIO(), **options)
    return file.getvalue()


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix",
    ["_orig_mod.", "module.", "net.", "model.", "module._orig_mod.", "_orig_mod.module.", "net.net.", "my_own.words."],
)  # fmt: skip
@pytest.mark.parametrize("holder", [None, "state_dict", "weights_of_mine"])
def test_what_all_names_begin_with_goes(prefix, holder, tmp_path):
    state = under(prefix, network().state_dict())
    torch.save({holder: state, "epoch": 3} if holder else state, tmp_path / "t.pth")
    assert gives(tmp_path / "t.pth", network())


def test_wrappers_within_names_and_an_average_s_counter_go(tmp_path):
    path, state = tmp_path / "t.pth", network().state_dict()
    inner = {re.sub(r"^(layer\d)\.", r"\1._orig_mod.", name): value for name, value in state.items()}
    torch.save({"model": under("module.", inner)}, path)
    assert gives(path, network()) and any("_orig_mod" in name for name in inner)
    torch.save({"model": AveragedModel(network()).state_dict()}, path)
    assert gives(path, network())


def test_a_prefix_beside_heads_goes_with_every_name(tmp_path):
    heads = {"criterion.weight": torch.ones(3), "criterion.bias": torch.ones(3)}
    torch.save({"state_dict": under("net.module.", network().state_dict()) | heads}, path := tmp_path / "t.ckpt")
    with pytest.raises(SpecError, match=r"do not fit .*: 2 unexpected \(criterion.weight, criterion.bias\); if"):
        load_teacher(ARCH, path)
    assert gives(path, network(), ignore="criterion.") and gives(path, network(), weights="net")


# --- several sets of weights --------------------------------------------------------------------------------------


def averaged(state):
    """As torch.optim.swa_utils saves it."""
    return {"n_averaged": torch.tensor(4)} | under("module.", state)


SEVERAL = {  # where the average lies, and the file around the weights w and their average e
    "timm": ("state_dict_ema", lambda w, e: {"epoch": 1, "state_dict": w, "optimizer": {}, "state_dict_ema": e}),
    "torchvision": ("model_ema", lambda w, e: {"model": w, "model_ema": averaged(e)}),
    "short": ("ema", lambda w, e: {"ema": e, "model": w, "epoch": 1}),
    "basicsr": ("params_ema", lambda w, e: {"params": w, "params_ema": e}),
    "nested": ("checkpoint.ema.module", lambda w, e: {"checkpoint": {"net": w, "ema": {"module": e}}}),
    "lightning": ("callbacks.EMA.state_dict", lambda w, e: {"state_dict": w, "callbacks": {"EMA": {"state_dict": e}}}),
}  # fmt: skip


@pytest.mark.parametrize("form", SEVERAL)
def test_of_several_sets_the_usual_one_is_taken_and_said(form, tmp_path):
    full, make = SEVERAL[form]
    plain, average, path = network(1), network(2), tmp_path / "t.pth"
    torch.save(make(plain.state_dict(), average.state_dict()), path)
    short = "ema" if form != "lightning" else "EMA"
    assert gives(path, plain) and gives(path, average, weights=short) and gives(path, average, weights=full)
    assert gives(f"{path}?weights={short}", average)
    said = describe(named(path), 3, 1)
    assert said.startswith(f"teacher t.pth: {ARCH!r} of 3 classes and 1 channel (grey); its weights")
    assert f"not {full!r} (?weights={full} takes those)" in said
    assert f"its weights {full!r}, not" in describe(named(path, weights=short), 3, 1)
    with pytest.raises(SpecError, match=rf"weights must be one of \[.*{full}.*\], but got 'emma'"):
        load_teacher(ARCH, path, weights="emma")


def test_one_set_needs_no_word(tmp_path):
    torch.save({"anything": network().state_dict(), "optimizer": {"state": {"a": torch.ones(3)}}}, tmp_path / "t.pth")
    assert describe(named(tmp_path / "t.pth")) == f"teacher t.pth: {ARCH!r} of 3 classes and 1 channel (grey)"


def other():
    """The weights of another network."""
    return build("resnet14", 3, 1, seed=0).state_dict()


@pytest.mark.parametrize(
    "content",
    [
        lambda s, t: {"state_dict": under("student.", s) | under("teacher.", t)},
        lambda s, t: under("module.student.net.", s) | under("module.teacher.", t) | {"module.loss.w": torch.ones(2)},
        lambda s, t: {"student": s, "teacher": t},
        lambda s, t: {"state_dict": under("student.", s) | under("teacher.", other())},
        lambda s, t: {"net": s, "model": t},
    ],
)  # fmt: skip
def test_a_pair_asks_which(content, tmp_path):
    student, teacher, path = network(1), network(2), tmp_path / "t.pth"
    torch.save(content(student.state_dict(), teacher.state_dict()), path)
    with pytest.raises(
        SpecError, match=r"several sets of weights, \[.*, .*\], and any .* as t.pth\?weights=\w+\.$"
    ) as told:
        load_teacher(ARCH, path)
    offered = re.search(r"weights=(\w+)", str(told.value))[1]
    names = {"student": student, "teacher": teacher, "net": student, "model": teacher}
    assert offered in names
    word = "student" if "student" in str(told.value) else "net"
    assert gives(path, names[word], weights=word)
    if "other" not in content.__code__.co_names:
        assert gives(path, names[offered], weights=offered)


def test_the_command_line_names_file_and_weights(tmp_path):
    path = tmp_path / "t.pth"
    torch.save({"state_dict": network(1).state_dict(), "state_dict_ema": network(2).state_dict()}, path)
    for text in (f"{path}?weights=ema", f' "{path}?weights=ema" '):
        teacher = checkpoint("--teacher", text, ARCH)
        assert (teacher.path, teacher.weights) == (str(path), "ema") and teacher.sha256 == named(path).sha256
    refusals = {
        "?wieghts=ema": "after '\\?' must be one of .weights., but got 'wieghts'.",
        "?weights=": "must name weights",
    }
    for words, said in refusals.items():
        with pytest.raises(SpecError, match=said):
            checkpoint("--teacher", f"{path}{words}", ARCH)
    with pytest.raises(SpecError, match="does not say its model; name it by --arch"):
        checkpoint("--teacher", path)
    odd = tmp_path / "mine?weights=old.pth"
    torch.save(network(3).state_dict(), odd)
    assert checkpoint("--teacher", str(odd), ARCH).path == str(odd)
    assert weightfile.parse("--teacher", "~/a.pth")[0].is_absolute() and "~" not in str(
        weightfile.parse("t", "~/a.pth")
    )


def test_a_file_s_own_words_run_no_program(tmp_path, monkeypatch, capsys):
    (tmp_path / "theirs.py").write_text("open('was here', 'w')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for arch in ("theirs:Net", "os:system", "torchvision:models", " torchvision.models:x"):
        save_file(STATE, "t.safetensors", {"arch": arch, "options": json.dumps({"command": "touch 'was here'"})})
        said = f"says that its model is {arch!r}, a program that did not come with kdlab"
        with pytest.raises(SpecError, match=re.escape(said)):
            checkpoint("--teacher", "t.safetensors")
        monkeypatch.setattr(sys, "argv", ["kdlab", "run", "kd", "--profile", "smoke", "--teacher", "t.safetensors"])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2 and said in capsys.readouterr().err.replace("\n", " ")
    assert checkpoint("--teacher", "t.safetensors", "theirs:Net").arch == "theirs:Net", "whoever trusts it names it"
    assert not (tmp_path / "was here").exists()


def test_which_weights_stand_in_the_key(tmp_path):
    torch.save({"state_dict": network(1).state_dict(), "model_ema": network(2).state_dict()}, tmp_path / "t.pth")
    spec = RunSpec(sizes=(320, 20, 20), budget=Budget(1, "steps", 8), method="kd")
    keys = {lab.run_key(spec.replace(teacher=named(tmp_path / "t.pth", weights=w))) for w in ("", "ema")}
    assert len(keys) == 2


# --- what a file is -----------------------------------------------------------------------------------------------


def zipped(*names):
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        for name in names:
            archive.writestr(name, b"0")
    return file.getvalue()


def numpy_file(write, *arrays):
    write(file := io.BytesIO(), *arrays)
    return file.getvalue()


def script():
    torch.jit.save(torch.jit.trace(network(), X), file := io.BytesIO())
    return file.getvalue()


STATE = network().state_dict()
FILES = {
    "an LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
                       "is a Git LFS pointer, the text that stands for a file of 12,345 bytes. `git lfs pull`"),
    "a web page": (b"\n<!DOCTYPE html><html><style>a {}</style><title>Quota</title> exceeded</html>",
                   "is a web page that says 'Quota exceeded': the link leads to a page"),
    "a text": (b"Not Found", "is a text that begins with 'Not Found'"),
    "an answer in json": (b'{"error": 404}', "is a text that begins with '{\"error\": 404}'"),
    "nothing": (b"", "is empty: its download or its saving did not finish"),
    "a numpy array": (numpy_file(np.save, np.zeros(3)), "is a numpy array"),
    "numpy arrays": (numpy_file(np.savez, np.zeros(3)), "is an archive of numpy arrays (npz)"),
    "a pickle": (pickle.dumps({"a": 1}), "is a plain pickle, which runs code when it is read, so it was not opened"),
    "a whole model": (saved(network()), "is a pickled object (kdlab.models.resnet.ResNet), such as a whole model"),
    "an old whole model": (saved(network(), _use_new_zipfile_serialization=False), "is a pickled object (kdlab.models"),
    "a zip": (zipped("weights/a.txt"), "is a zip archive (weights/a.txt). Unpack it"),
    "a gzip": (gzip.compress(saved(STATE)), "is packed with gzip. Unpack it"),
    "keras": (b"\x89HDF\r\n\x1a\n" + bytes(64), "is an HDF5 file, as Keras writes"),
    "an image": (b"\x89PNG\r\n\x1a\n" + bytes(64), "is a PNG image"),
    "half a file": (saved(STATE)[:5000], "its end is missing after 5,000 bytes. Download it again"),
    "half an old file": (saved(STATE, _use_new_zipfile_serialization=False)[:5000], "is damaged: it begins like"),
    "half a safetensors file": (save(STATE)[:-100], "is part of a safetensors file: "),
    "a bit of a safetensors file": (save(STATE)[:100], "begins like a safetensors file, but its header is cut off"),
    "bytes": (bytes(range(200, 250)), "begins with the bytes c8 c9 ca cb cc cd ce cf"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_refusal_says_what_the_file_is(kind, suffix, tmp_path):
    content, said = FILES[kind]
    path = tmp_path / f"t{suffix}"
    path.write_bytes(content)
    for read in (lambda: load_teacher(ARCH, path, 3, 1), lambda: describe(named(path))):
        with pytest.raises(SpecError, match=re.escape(said)) as told:
            read()
        assert str(path) in str(told.value) and "\n" not in str(told.value) and len(str(told.value)) < 500
        assert "weights_only" not in str(told.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_torchscript_archive_is_called_so(tmp_path):
    (tmp_path / "t.pth").write_bytes(script())
    with pytest.raises(SpecError, match=r"is a TorchScript archive, .*torch.jit.load\(FILE\).state_dict\(\)"):
        load_teacher(ARCH, tmp_path / "t.pth")


def test_folders_and_missing_files_tell_what_is_near(tmp_path):
    torch.save(STATE, tmp_path / "resnet.pth")
    with pytest.raises(SpecError, match="is a folder. Name the file of weights in it: resnet.pth"):
        load_teacher(ARCH, tmp_path)
    with pytest.raises(SpecError, match="resent.pth does not exist. Did you mean 'resnet.pth', which is there"):
        load_teacher(ARCH, tmp_path / "resent.pth")
    with pytest.raises(SpecError, match="does not exist"):
        load_teacher(ARCH, tmp_path / "nowhere" / "resnet.pth")


@pytest.mark.parametrize("old", [True, False])
def test_every_half_download_is_refused(old, tmp_path):
    whole, path = saved(STATE, _use_new_zipfile_serialization=not old), tmp_path / "t.pth"
    for share in range(1, 10):
        path.write_bytes(whole[: len(whole) * share // 10])
        with pytest.raises(SpecError, match="Download it again"):
            load_teacher(ARCH, path)


def zipped(state, how, repeated=1):
    """A torch file whose entries are written in another way than torch does."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(state))) as whole, zipfile.ZipFile(out, "w", how) as packed:
        for entry in whole.namelist():
            packed.writestr(entry, whole.read(entry))
        packed.filelist *= repeated  # more entries of the same bytes
    return out.getvalue()


@pytest.mark.parametrize(
    ("how", "repeated"), [(zipfile.ZIP_DEFLATED, 1), (zipfile.ZIP_LZMA, 1), (zipfile.ZIP_STORED, 9)]
)
def test_an_archive_that_would_grow_is_not_opened(how, repeated, tmp_path):
    (tmp_path / "t.pt").write_bytes(zipped({"w.weight": torch.zeros(1000, 1000)}, how, repeated))
    with pytest.raises(SpecError, match="compressed or overlapping entries, which torch never saves"):
        load_teacher(ARCH, tmp_path / "t.pt")
    (tmp_path / "t.pt").write_bytes(zipped(network().state_dict(), zipfile.ZIP_STORED))
    assert gives(tmp_path / "t.pt", network())


class Bytes:
    """A pickle of a few bytes that makes as many as it is told."""

    def __reduce__(self):
        return bytearray, (1 << 33,)


@pytest.mark.parametrize(
    "huge",
    [torch.zeros(1).expand(1 << 38), torch.empty(1 << 38, device="meta"), Bytes()],
    ids=["stride", "meta", "bytes"],
)
def test_a_tensor_of_more_numbers_than_its_file_is_refused_before_anything_is_made(huge, tmp_path):
    (tmp_path / "t.pt").write_bytes(saved(network().state_dict() | {"conv1.weight": huge}))
    with pytest.raises(SpecError, match=r"'conv1.weight', .* not every number lies in it|builtins.bytearray"):
        load_teacher(ARCH, tmp_path / "t.pt")


PLAIN = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":' + b"[" * 100_000, {"w": PLAIN | {"data_offsets": []}}, {"w": PLAIN | {"data_offsets": [0, "x"]}},
        {"w": PLAIN | {"shape": [1 << 60, 1 << 60]}}, {"w": PLAIN, "__metadata__": 3},
        {"w": PLAIN, "__metadata__": {"classes": 3}},
    ],
)  # fmt: skip
def test_an_odd_header_of_safetensors_is_refused_in_words(header, tmp_path):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    (tmp_path / "t.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(SpecError, match="damaged"):
        load_teacher(ARCH, tmp_path / "t.safetensors")


def test_the_content_tells_the_format_not_the_name(tmp_path):
    save_file(STATE, tmp_path / "t.pth")
    torch.save(STATE, tmp_path / "t.safetensors")
    assert gives(tmp_path / "t.pth", network()) and gives(tmp_path / "t.safetensors", network())


@pytest.mark.parametrize(("name", "value"), [("conv1.weight", float("nan")), ("bn1.running_var", float("inf"))])
def test_numbers_that_are_not_finite_are_named(name, value, tmp_path):
    state = {key: tensor.clone() for key, tensor in STATE.items()}
    state[name].view(-1)[1] = value
    torch.save({"net": under("module.", state)}, tmp_path / "t.pth")
    with pytest.raises(SpecError, match=rf"not finite \(nan or inf\) in module.{name} \(1 of {state[name].numel()}\)"):
        load_teacher(ARCH, tmp_path / "t.pth")


# --- before anything trains ---------------------------------------------------------------------------------------


def test_a_bad_file_is_refused_before_the_plan(tmp_path, capsys):
    spec = RunSpec(sizes=(320, 20, 20), budget=Budget(1, "steps", 8), method="kd")
    bad = {name: tensor.clone() for name, tensor in network(classes=10).state_dict().items()}
    bad["conv1.weight"][0] = float("nan")
    for content, said in [
        (save(bad), "not finite"),
        (save(STATE), "here it needs 10 classes"),
        (FILES["a web page"][0], "page"),
    ]:
        (tmp_path / "t.pth").write_bytes(content)
        with pytest.raises(SpecError, match=said):
            lab.run([spec.replace(teacher=named(tmp_path / "t.pth"))], workers=0)
        assert capsys.readouterr().out == "" and not list(tmp_path.glob("out/**/*.safetensors"))
    (tmp_path / "t.pth").write_bytes(save(network(classes=10).state_dict()))
    other = named(tmp_path / "t.pth")
    (tmp_path / "t.pth").write_bytes(save(network(2, classes=10).state_dict()))
    with pytest.raises(SpecError, match="is not the file its sha256 .* names"):
        lab.run([spec.replace(teacher=other)], workers=0)


def test_a_plan_says_it_without_torch(tmp_path):
    (tmp_path / "t.pth").write_bytes(FILES["half a file"][0])
    script = (
        "import sys\nfrom kdlab import lab\nfrom kdlab.foreign import weightfile\n"
        "from kdlab.spec import Checkpoint, RunSpec, SpecError\n"
        f"teacher = Checkpoint({str(tmp_path / 't.pth')!r}, '', {ARCH!r})\n"
        "try:\n    lab.plan([RunSpec(method='kd', teacher=teacher)])\n"
        "except SpecError as error:\n    print(error)\nassert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert "its end is missing after 5,000 bytes" in done.stdout and done.stderr == ""


def test_a_run_prints_which_weights_it_takes(tmp_path, capsys):
    teacher = RunSpec(sizes=(1000, 200, 200), model=ARCH, budget=Budget(60, "steps", 32))
    lab.run([teacher], workers=0, progress=False)
    weights = lab.Store().weights(lab.run_key(teacher))
    torch.save({"state_dict": weights, "state_dict_ema": weights}, tmp_path / "t.pth")
    spec = teacher.replace(method="kd", teacher=named(tmp_path / "t.pth"), budget=Budget(1, "steps", 8))
    lab.run([spec], workers=0)
    said = capsys.readouterr().out
    assert said.index("1 to train") < said.index("its weights 'state_dict', not 'state_dict_ema'")


def test_run_plan_reads_the_file_too(tmp_path, monkeypatch, capsys):
    state = network(classes=10).state_dict()
    torch.save({"state_dict": state, "state_dict_ema": under("module.", state)}, path := tmp_path / "t.pth")
    words = ["kdlab", "run", "kd", "--profile", "smoke", "--plan", "--arch", ARCH, "--teacher"]
    for weights, said in (
        ("ema", "its weights 'state_dict_ema', not"),
        ("emma", "weights must be one of .* got 'emma'"),
    ):
        monkeypatch.setattr(sys, "argv", [*words, f"{path}?weights={weights}"])
        terminated = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as stop:
            main()
        signal.signal(signal.SIGTERM, terminated)
        told = capsys.readouterr()
        assert re.search(said, told.out if weights == "ema" else told.err) and bool(stop.value.code) == (
            weights == "emma"
        )
        assert ("to train" in told.out) == (weights == "ema")


# --- class names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "beside",
    [
        {"classes": ["bar", "beam", "disc"]},
        {"class_names": ("bar", "beam", "disc")},
        {"class_to_idx": {"disc": 2, "bar": 0, "beam": 1}},
        {"idx_to_class": {2: "disc", 0: "bar", 1: "beam"}},
        {"meta": {"CLASSES": ["bar", "beam", "disc"]}},
    ],
)
def test_class_names_are_read_from_the_file(beside, tmp_path):
    torch.save({"state_dict": STATE} | beside, tmp_path / "t.pth")
    assert class_names(tmp_path / "t.pth") == ("bar", "beam", "disc")


def test_class_names_of_safetensors_and_of_files_without(tmp_path):
    save_file(STATE, tmp_path / "t.safetensors", {"classes": json.dumps(["bar", "beam"])})
    assert class_names(tmp_path / "t.safetensors") == ("bar", "beam")
    for beside in ({}, {"classes": 3}, {"class_to_idx": {"a": 0, "b": 2}}):
        torch.save({"state_dict": STATE} | beside, tmp_path / "t.pth")
        assert class_names(tmp_path / "t.pth") is None
    save_file(STATE, tmp_path / "t.safetensors", {"classes": "bar, beam"})
    assert class_names(tmp_path / "t.safetensors") is None
