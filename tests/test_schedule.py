"""What a plan predicts, how it cuts cohorts, and what the progress bar says is left."""

import itertools

import pytest
import torch
from torch import nn

from kdlab import lab
from kdlab.errors import SpecError
from kdlab.lab import arithmetic, memory, progress
from kdlab.lab import costs as rates
from kdlab.lab.cohort import Cohort, balanced, cohort, cohorts, makespan
from kdlab.lab.planned import planned
from kdlab.lab.progress import Bar
from kdlab.lab.store import Store
from kdlab.models import build
from kdlab.perspectives import profile
from kdlab.spec import Budget, RunSpec

TEACHER = RunSpec(sizes=(320, 100, 100), model="resnet8_s2_w8", budget=Budget(4, "steps", 32), role="teacher")
KD = TEACHER.replace(
    role="student",
    model="resnet8_s2_w4", teacher=TEACHER, method="kd", views=2, augmentation="jda", ratio=0.5,
    budget=Budget(8, "steps", 32),
)  # fmt: skip


class Rates(rates.Costs):
    """Costs that were not measured but given."""

    def __init__(self, seconds):
        self.seconds, self.cached = seconds, {}


def cohorts_of(*seconds, needs=()):
    """Cohorts of one run each, with keys a, b, c ..."""
    return [Cohort({k: planned(KD)}, set(needs), 0, {k: s}) for k, s in zip("abcdefgh", seconds, strict=False)]


# --- workers that end together ------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_makespan_is_that_of_a_queue_by_hand(workers):
    for seconds in itertools.permutations((5.0, 3.0, 2.0, 2.0)):
        free = [0.0] * workers
        for s in seconds:
            free[free.index(min(free))] += s
        end, last = makespan(cohorts_of(*seconds), workers)
        assert end == max(free) and last is not None


def test_a_job_waits_for_its_teacher():
    teacher = Cohort({"t": planned(TEACHER)}, set(), 0, {"t": 4.0})
    assert makespan([teacher, *cohorts_of(3.0, 3.0, needs="t")], 2)[0] == 7.0
    assert makespan([], 2) == (0.0, None)


def test_cohorts_are_cut_until_two_workers_end_together_and_no_arm_is_lost():
    specs = [KD.replace(method=m, seed=s, teacher=None) for m in ("ce",) for s in range(3)]
    runs = [planned(s.replace(ratio=n / 16)) for s in specs for n in range(1, 16)]
    costs = Rates({("student", "resnet8_s2_w4"): 1e-3, ("views",): 1e-5})
    keys = [run.key for run in runs]
    whole = cohorts(runs, dict.fromkeys(keys, 0), dict.fromkeys(keys, 1), costs)
    cut = balanced(whole, 2, costs)
    assert len(whole) == 3 and len(cut) > 3
    assert sorted(k for one in cut for k in one.runs) == sorted(keys)
    even = sum(one.seconds for one in cut) / 2
    assert makespan(whole, 2)[0] > 1.25 * even
    assert makespan(cut, 2)[0] <= 1.05 * even
    assert balanced(whole, 1, costs) == whole


def test_bits_do_not_depend_on_how_cohorts_are_cut(tmp_path):
    specs = [KD.replace(method=method) for method in ("kd", "ccd", "sp")]
    one = lab.run(specs, workers=0, progress=False, require_teacher=False, store=Store(tmp_path / "one"))
    for spec in specs:
        lab.run([spec], workers=0, progress=False, require_teacher=False, store=Store(tmp_path / "other"))
    other = lab.table(specs, store=Store(tmp_path / "other"))
    assert (one[["test_accuracy", "test_nll"]] == other[["test_accuracy", "test_nll"]]).all(axis=None)


# --- predictions --------------------------------------------------------------------------------------------------


def test_a_plan_adds_up_what_was_measured():
    costs = Rates({
        ("student", "resnet8_s2_w4"): 1e-3, ("fused", "resnet8_s2_w4"): 6e-4,
        ("fused", "resnet8_s2_w4", "fashion", "crd"): 5e-3, ("student", "resnet8_s2_w8"): 4e-3,
        ("evaluation", "resnet8_s2_w4"): 1e-4, ("views", "fashion"): 2e-5, ("teacher", "resnet8_s2_w8"): 3e-4,
    })  # fmt: skip
    kd, crd = planned(KD), planned(KD.replace(method="crd"))
    both = cohort([kd, crd], 0, set(), costs)
    looked_at = 4 * 100 + 100
    assert both.own_seconds[kd.key] == pytest.approx(8 * 64 * 6e-4 + looked_at * 1e-4)
    assert both.own_seconds[crd.key] == pytest.approx(8 * 64 * 5e-3 + looked_at * 1e-4)
    assert both.shared_seconds == pytest.approx(
        8 * 32 * 2 * (2e-5 + 3e-4)
    )  # two views, both shown to the teacher, once for both
    more = cohort([kd, crd, planned(KD.replace(ratio=0.25))], 0, set(), costs)  # one more view: the second weak one
    assert more.shared_seconds == pytest.approx(both.shared_seconds * 3 / 2)
    alone = cohort([kd], 0, set(), costs)
    assert alone.own_seconds[kd.key] == pytest.approx(8 * 64 * 1e-3 + looked_at * 1e-4)
    assert costs.rate("student", "resnet56") == rates.GUESSES["student"]
    # What was measured in one way tells something of the other.
    assert costs.rate("fused", "resnet8_s2_w8") == pytest.approx(4e-3 / rates.FUSED)
    assert Rates({("fused", "a"): 1e-3}).rate("student", "a") == pytest.approx(1e-3 * rates.FUSED)
    assert costs.guessed("resnet56") and not costs.guessed(KD.model)


def test_measured_rates_come_from_the_finished_runs_and_a_plan_says_what_is_a_guess():
    assert "a guess: no run of resnet8_s2_w4, resnet8_s2_w8 has been measured" in lab.plan([KD]).describe()
    lab.run([KD], workers=0, progress=False, require_teacher=False)
    store, costs = Store(), rates.Costs(Store())
    key = lab.run_key(KD)
    result, cost = store.read(key, "result"), store.read(key, "cost")
    assert costs.rate("student", "resnet8_s2_w4", "fashion", "kd") == result["seconds"] / (8 * 64)
    assert costs.rate("teacher", "resnet8_s2_w8", "fashion") == cost["teacher"] / (16 * 32)
    assert (cost["made"], cost["passes"], cost["looked_at"]) == (
        17,
        16,
        4 * 100 + 100,
    )  # one view more, from which the student was set up
    assert "a guess" not in lab.plan([KD.replace(method="ccd")]).describe()


# Images of 28 x 28 a second on one core with AVX-512, measured: training, forward alone.
SPEEDS = {
    "resnet8_s2_w4": (7000, 50000), "resnet8_s2_w8": (7500, 35000), "resnet8_s2_w16": (4200, 17000),
    "resnet8_s2_w32": (1400, 5200), "resnet8_s2_w64": (400, 1500),
}  # fmt: skip


@pytest.mark.parametrize("slower", [0.5, 1, 10])
@pytest.mark.parametrize("known", [None, *SPEEDS])
def test_networks_that_were_never_measured_are_predicted_within_a_factor_of_two(known, slower):
    """From their multiply-adds: on a machine like that of the table, or on any where one network was measured."""
    measured = (
        {}
        if known is None
        else {
            (kind, known, "fashion"): slower / speed
            for kind, speed in zip(("student", "teacher"), SPEEDS[known], strict=True)
        }
    )
    costs = Rates(measured)
    for model, (training, forward) in SPEEDS.items():
        for kind, speed in (("student", training), ("teacher", forward), ("evaluation", forward)):
            if model != known and (known or slower == 1):
                assert 0.5 < costs.rate(kind, model, "fashion") * speed / slower < 2, (kind, model)


def test_multiply_adds_are_as_listed():
    assert set(arithmetic.MULTIPLY_ADDS) == set(memory.NETWORKS)
    for name in ("resnet8_s2_w16", "resnet20", "vgg8", "wrn_16_2", "ShuffleV2"):
        found, model = [], build(name, 100, 3, seed=0).eval()

        def count(module, given, said, found=found):
            found.append(said.shape[2:].numel() * module.weight.numel())

        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(count)
        with torch.no_grad():
            model(torch.zeros(1, 3, 32, 32))
        assert arithmetic.MULTIPLY_ADDS[name] == pytest.approx(sum(found) / 1024 / 1000, rel=0.01)


def test_the_paper_s_networks_take_years(monkeypatch):
    monkeypatch.setattr(rates.data, "facts", lambda name: {"size": 32})
    spec = profile("paper")
    costs = Rates({})
    images = 1 / (costs.rate("student", spec.student, "cifar100") + costs.rate("teacher", spec.teacher, "cifar100"))
    assert 35 < images < 140  # 70 a second were measured on such a core


def test_what_the_doctor_measured_is_what_a_plan_starts_from(monkeypatch):
    usual = rates.Costs(Store()).rate("student", "resnet20", "fashion")
    half = arithmetic.Machine(*(value / 2 for value in arithmetic.CORE))
    Store().put(rates.machine_name(False), half._asdict())
    slow = rates.Costs(Store()).rate("student", "resnet20", "fashion")
    assert 1.8 * usual < slow < 2 * usual
    monkeypatch.setenv("KDLAB_DEVICE", "cuda")
    assert rates.Costs(Store()).rate("student", "resnet20", "fashion") < usual / 20


def test_rates_of_a_gpu_say_nothing_of_a_cpu(monkeypatch):
    lab.run([KD], workers=0, progress=False, require_teacher=False)
    assert not rates.Costs(Store()).guessed(KD.model)
    monkeypatch.setenv("KDLAB_DEVICE", "cuda")
    assert rates.Costs(Store()).guessed(KD.model)


def test_runs_of_earlier_versions_have_no_cost_and_still_count():
    lab.run([KD], workers=0, progress=False, require_teacher=False)
    for path in Store().root.glob("*/cost.json"):
        path.unlink()
    costs = rates.Costs(Store())
    assert costs.rate("student", "resnet8_s2_w4", "fashion", "kd") > 0
    assert costs.rate("views", "fashion") == rates.GUESSES["views"]


def test_a_plan_shows_what_kept_teacher_outputs_save():
    lab.run([KD], workers=0, progress=False, require_teacher=False)
    todo = lab.plan([KD.replace(method="dkd")])
    assert todo.cohorts[0].saved_seconds > 0 and "kept teacher outputs save" in todo.describe()
    maps = lab.plan([KD.replace(method="sp")])
    assert maps.cohorts[0].saved_seconds == 0 and "kept" not in maps.describe()
    both = lab.plan([KD.replace(method="dkd"), KD.replace(method="sp")]).cohorts
    assert len(both) == 1 and both[0].saved_seconds == 0  # one that reads the teacher's maps has it computed for all
    longer = lab.plan([KD.replace(method="dkd", budget=Budget(9, "steps", 32))])
    assert longer.cohorts[0].saved_seconds == 0


# --- the bar ------------------------------------------------------------------------------------------------------


class Standing:
    """A store in which runs stand where a test puts them."""

    def __init__(self, **steps):
        self.steps = steps

    def begun(self):
        return set(self.steps)

    def steps_done(self, key):
        return 0

    def has(self, key):
        return self.steps.get(key) == 8

    def lease(self, key):
        return {"step": self.steps[key]} if key in self.steps else None


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_what_is_left_is_what_the_last_worker_has_left(clock):
    store = Standing()
    bar = Bar(cohorts_of(80.0, 20.0, 20.0), store, 2, shown=False)
    assert bar.remaining() == 80.0  # not (80 + 20 + 20) / 2
    clock[0], store.steps = 20.0, {"a": 2, "b": 8}
    bar.update()
    assert bar.remaining() == pytest.approx(60.0)
    clock[0], store.steps = 40.0, {"a": 4, "b": 8, "c": 8}
    bar.update()
    assert bar.remaining() == pytest.approx(40.0)  # one worker has nothing to do any more


def test_what_is_left_follows_the_speed_that_was_seen(clock):
    store = Standing()
    bar = Bar(cohorts_of(80.0, 80.0), store, 2, shown=False)
    clock[0], store.steps = 100.0, {"a": 2, "b": 2}
    bar.update()
    assert bar.remaining() == pytest.approx(60 * (200 + progress.TRUSTED) / (40 + progress.TRUSTED))


def test_a_checkpoint_is_not_progress_of_this_run(clock, monkeypatch):
    store = Standing(a=6)
    monkeypatch.setattr(store, "steps_done", lambda key: 6, raising=False)
    bar = Bar(cohorts_of(80.0), store, 1, shown=False)
    assert bar.remaining() == pytest.approx(20.0)
    clock[0] = 10.0
    store.steps = {"a": 7}
    bar.update()
    assert bar.remaining() == pytest.approx(10.0)


def test_a_checkpoint_tells_its_step_without_its_tensors(tmp_path):
    import torch

    store = Store(tmp_path)
    assert store.steps_done("k") == 0
    store.save_checkpoint("k", {"x": torch.zeros(2)}, {"step": 5})
    assert store.steps_done("k") == 5


# --- kdlab bench --------------------------------------------------------------------------------------------------


def test_bench_lists_every_script_and_refuses_others(capsys):
    from kdlab.cli import bench

    assert bench.bench([], listed=True)
    listed = capsys.readouterr().out
    assert all(f"\n{name} " in f"\n{listed}" for name in ("augment", "cohort", "scale", "sweep", "warm", "widgets"))
    assert not any(f"\n{name} " in f"\n{listed}" for name in bench.SHARED)
    with pytest.raises(SpecError, match="Did you mean 'cohort'"):
        bench.bench(["cohrt"])
