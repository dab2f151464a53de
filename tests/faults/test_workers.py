"""Workers that die, hang or run out of memory: their cohort is split and tried once more, then recorded as failed."""

import concurrent.futures as futures
import os
import time
import types

import fates
import pytest

from kdlab import lab
from kdlab.errors import SpecError
from kdlab.lab import processes, worker
from kdlab.lab.retries import FailedRuns, Lost
from kdlab.lab.store import Store
from kdlab.losses.kd import KD
from kdlab.spec import Budget, Optimiser, RunSpec

TEACHER = RunSpec(sizes=(320, 100, 100), model="resnet8_s2_w4", budget=Budget(3, "steps", 32), role="teacher")
STUDENT = TEACHER.replace(role="student", method="kd", teacher=TEACHER)
STUDENTS = [STUDENT.replace(method_options={"temperature": 2.0 + number}) for number in range(4)]
KEYS = [lab.run_key(spec) for spec in STUDENTS]


def run(*specs, **options):
    return lab.run(specs, **{"workers": 0, "progress": False, "require_teacher": False} | options)


def bits(store, keys):
    return [store.logits(key)["test"].tobytes() for key in keys]


# ---- processes -------------------------------------------------------------------------------------------------------


def test_a_process_that_dies_or_hangs_takes_no_other_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "LOOK_EVERY", 0.1)
    monkeypatch.setattr(worker, "signs_of_life", lambda runs, root: runs or time.monotonic())  # but for one, they live
    pool = processes.Pool(2)
    pool._silence = 1.0
    tasks = {fates.slow: [], fates.killed: [], fates.hung: ["silent"], fates.quick: []}
    asked = [pool.submit(task, runs, tmp_path, None) for task, runs in tasks.items()]
    for future, said in ((asked[1], "it was killed, as a system does"), (asked[2], "no sign of life for 1 seconds")):
        with pytest.raises(Lost, match=said):
            future.result(900)
    assert asked[0].result(900) is asked[3].result(900) is None
    pool.shutdown()
    assert sorted(os.listdir(tmp_path)) == ["quick", "slow"]


def test_a_worker_sees_that_its_parent_is_gone_though_another_holds_the_pipe_between_them(monkeypatch):
    parent = types.SimpleNamespace(pid=os.getppid(), is_alive=lambda: True, join=lambda timeout: joined.append(timeout))
    joined, ended = [], []
    monkeypatch.setattr(worker.multiprocessing, "parent_process", lambda: parent)
    monkeypatch.setattr(worker.os, "_exit", ended.append)
    monkeypatch.setattr(worker.os, "getppid", lambda: parent.pid + (len(joined) > 2))
    worker._end_with_parent()
    assert ended == [0] and len(joined) == 3


@pytest.mark.parametrize("said", ["9", "never", "-1", "inf"])
def test_a_silence_that_is_no_length_of_time_is_refused(monkeypatch, said):
    monkeypatch.setenv("KDLAB_SILENCE", said)
    with pytest.raises(SpecError, match=f"KDLAB_SILENCE must be a number of seconds, 10 or more, but is '{said}'"):
        run(TEACHER)


# ---- cohorts ---------------------------------------------------------------------------------------------------------


class Losing(futures.Executor):
    """Loses the worker of any cohort that holds one of some runs, so many times."""

    def __init__(self, keys, times):
        self.keys, self.times, self.seen = set(keys), times, []

    def submit(self, train, runs, root, stop):
        future, keys = futures.Future(), [run.key for run in runs]
        self.seen.append(keys)
        try:
            if self.keys & set(keys) and self.times:
                self.times -= 1
                raise Lost("it was killed")
            future.set_result(train(runs, root, stop))
        except Lost as error:
            future.set_exception(error)
        return future


def test_a_lost_cohort_is_split_and_tried_once_more(tmp_path, capsys):
    run(*STUDENTS, store=Store(tmp_path / "whole"))
    losing = Losing(KEYS[:1], 1)
    table = run(*STUDENTS, executor=losing, workers=1)
    assert [len(keys) for keys in losing.seen] == [1, 4, 2, 2] and table.index.tolist() == KEYS
    assert bits(Store(), KEYS) == bits(Store(tmp_path / "whole"), KEYS)
    assert "a worker was lost: it was killed; its 4 runs are tried once more, in halves" in capsys.readouterr().err


def test_what_is_lost_twice_is_recorded_and_everything_else_finishes(capsys):
    losing = Losing(KEYS[:1], 2)
    with pytest.raises(
        FailedRuns, match=f"run {KEYS[0]} has failed twice: it was killed. 1 more runs failed"
    ) as caught:
        run(*STUDENTS, executor=losing, workers=1)
    assert caught.value.reasons.keys() == set(KEYS[:2]) and "\n" not in str(caught.value)
    assert Store().keys() == sorted([lab.run_key(TEACHER), *KEYS[2:]])
    assert lab.plan(STUDENTS).missing == dict.fromkeys(KEYS[:2], "failed last time: it was killed")
    assert not list(Store().root.glob(".stop*"))
    assert len(run(*STUDENTS)) == 4 and not list((Store().root / ".failed").iterdir())


def test_students_fail_with_their_teacher_and_other_seeds_do_not():
    other = STUDENT.at_seed(1)
    with pytest.raises(FailedRuns) as caught:
        run(STUDENT, other, executor=Losing([lab.run_key(TEACHER)], 2), workers=1)
    teacher, student = lab.run_key(TEACHER), lab.run_key(STUDENT)
    assert caught.value.reasons == {
        teacher: "it was killed",
        student: f"its teacher, run {teacher}, has failed",
    }
    assert Store().has(lab.run_key(other))


class Hungry(KD):
    """KD that needs more memory than there is as long as it is told so."""

    def after_step(self, batch):
        if batch.step == 1 and HUNGER:
            raise HUNGER.pop()


HUNGER = []


@pytest.mark.parametrize("error", [MemoryError("no"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you"),
                                   RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")])  # fmt: skip
def test_a_worker_out_of_memory_is_a_lost_one(tmp_path, capsys, error):
    specs = [spec.replace(method="test_workers:Hungry") for spec in STUDENTS[:2]]
    HUNGER.append(error)
    assert len(run(*specs)) == 2 and not HUNGER
    assert "it ran out of memory" in (said := capsys.readouterr().err) and "2 runs are tried once more" in said


def test_what_is_no_lack_of_memory_ends_the_sweep():
    HUNGER.append(RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(STUDENT.replace(method="test_workers:Hungry"))
    assert not HUNGER


# ---- arms that break -------------------------------------------------------------------------------------------------


def test_a_diverging_arm_is_recorded_and_leaves_the_others_alone(tmp_path):
    wild = STUDENT.replace(optimiser=Optimiser(lr=1e30))
    table = run(STUDENT, wild)
    assert table["diverged"].tolist() == [False, True] and table["test_accuracy"].isna().tolist() == [False, True]
    run(STUDENT, store=Store(tmp_path / "alone"))
    key = lab.run_key(STUDENT)
    assert bits(Store(), [key]) == bits(Store(tmp_path / "alone"), [key])


def test_a_teacher_of_no_numbers_teaches_nobody_and_others_are_trained():
    broken = TEACHER.replace(optimiser=Optimiser(lr=1e30))
    good = TEACHER.replace(budget=Budget(40, "steps", 32))
    pupil, other = STUDENT.replace(teacher=broken), STUDENT.replace(teacher=good)
    with pytest.raises(lab.PoorTeacher, match="diverged at step"):
        run(pupil, other, require_teacher=True)
    store = Store()
    assert store.has(lab.run_key(broken)) and store.has(lab.run_key(other)) and not store.has(lab.run_key(pupil))


# ---- how often what is trained is put on disk ------------------------------------------------------------------------


def test_checkpoints_are_at_most_a_minute_apart(monkeypatch):
    """With a clock of our own: a step takes seven seconds."""
    now, saved, save = [0.0], [], Store.save_checkpoint
    monkeypatch.setattr(worker.time, "monotonic", lambda: now.__setitem__(0, now[0] + 7.0) or now[0])
    monkeypatch.setattr(Store, "save_checkpoint", lambda *given: saved.append(now[0]) or save(*given))
    run(TEACHER.replace(budget=Budget(40, "steps", 32)))
    assert len(saved) >= 4 and max(b - a for a, b in zip(saved, saved[1:], strict=False)) <= 60
