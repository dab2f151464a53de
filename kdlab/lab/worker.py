"""The worker: trains one cohort in one process, and writes its checkpoints, heartbeats and results to the store."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kdlab import metrics
from kdlab.errors import SpecError
from kdlab.lab import damage
from kdlab.lab.cohort import own_views, shared
from kdlab.lab.environment import environment
from kdlab.lab.keys import normal, run_key
from kdlab.lab.networks import score, splits_of, teacher_network
from kdlab.lab.planned import PlannedRun
from kdlab.lab.retries import Lost
from kdlab.lab.store import Store
from kdlab.lab.teachers import columns, own_run
from kdlab.memo import plan_memo

SAVE_EVERY = 30.0
BEAT_EVERY = 0.5
LOOK_EVERY = 1.0  # seconds between two looks at whether a worker's parent lives


_training = threading.Lock()


def quiet() -> None:
    """Start a worker: Ctrl-C belongs to the parent, which asks for a clean stop; one thread a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever; let it finish what it saves, then end it.

    A pipe closes when the parent dies, unless a fork of it that began in the same moment holds its other end.
    """
    parent = multiprocessing.parent_process()
    while parent.is_alive() and os.getppid() == parent.pid:
        parent.join(LOOK_EVERY)
    with _training:
        os._exit(0)


def train_cohort(runs: Sequence[PlannedRun], root: Path, stop: Path, tick: Callable[[], None] | None = None) -> None:
    """Train the runs of a cohort that nobody else has or holds, and wait for the others.

    Args:
        runs: of one cohort.
        root: folder of the store.
        stop: a file whose appearance asks for a clean stop.
        tick: called every half second, in this process.

    Raises:
        Lost: when memory runs out.
    """
    store = Store(root)
    while todo := [run for run in runs if not store.has(run.key)]:
        mine = [run for run in todo if store.claim(run.key)]
        if not mine:
            if stop.exists():
                return
            time.sleep(BEAT_EVERY)
            continue
        try:
            with _training:
                stopped = _train_claimed([run for run in mine if not store.has(run.key)], store, stop, tick)
        except (MemoryError, RuntimeError) as error:
            if _out_of_memory(error):
                raise Lost(f"it ran out of memory ({str(error).partition(chr(10))[0][:200]})") from None
            raise
        finally:
            store.release(run.key for run in mine)
        if stopped or stop.exists():
            return


def signs_of_life(runs: Sequence[PlannedRun], root: Path) -> tuple:
    """What changes while somebody trains some runs: which are finished, and when each other one's heartbeat was."""
    store = Store(root)
    return tuple(store.has(run.key) or store.beaten(run.key) for run in runs)


class Watch:
    """How long the runs of a cohort have given no sign of life: no heartbeat, and none of them finished.

    Args:
        runs: of the cohort.
        root: folder of a store in which they train.

    Attributes:
        begun: whether any sign was seen.
    """

    def __init__(self, runs: Sequence[PlannedRun], root: Path):
        self.runs, self.root, self.begun = runs, root, False
        self._signs, self._since = signs_of_life(runs, root), time.monotonic()

    def silent(self) -> float:
        """Seconds since the last sign, by this process's clock; since the watch began, where there was none."""
        if (now := signs_of_life(self.runs, self.root)) != self._signs:
            self._signs, self._since, self.begun = now, time.monotonic(), True
        return time.monotonic() - self._since


def no_sign(seconds: float) -> str:
    """That a worker was silent for too long, as a clause with the worker as its subject."""
    return f"it gave no sign of life for {seconds:g} seconds (KDLAB_SILENCE)"


def _out_of_memory(error: BaseException) -> bool:
    """Whether memory is what was lacking; torch says so on a CPU in words alone."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))


def _train_claimed(runs: list[PlannedRun], store: Store, stop: Path, tick) -> bool:
    """Train runs to the end, or until asked to stop: then True."""
    from kdlab.training import Arm, Stopped, Views, device, train

    if not runs:
        return False
    with plan_memo():
        moved = [run.key for run in runs if run_key(run.spec) != run.key]
    if moved:  # files were edited since
        raise SpecError(f"the data or the source of a part changed after run {moved[0]} was planned; start it again.")
    where = device()
    splits = splits_of(runs[0].spec)
    splits = splits._replace(val=splits.val.to(where), test=splits.test.to(where))
    teachers, test_logits, prepared = _teachers(runs, splits, store, where)
    cache = _teacher_cache(runs, store) if teachers and where == "cpu" else None
    views, made = {}, {}
    for run in runs:  # on a GPU a cohort may hold several seeds and subsets
        spec, which = run.spec, own_views(run.spec)
        if which not in made:
            made[which] = Views(
                splits.train.subset(spec.fraction, spec.seed).to(where), spec.seed, spec.replicate,
                spec.budget.originals_per_step, teachers, where, precision=spec.teacher_precision, prepared=prepared,
                teacher_cache=cache, role=spec.streams,
            )  # fmt: skip
        views[run.key] = made[which]
    keeper = Keeper(store, runs, stop, test_logits, tick)
    try:
        train(
            [Arm(run.key, run.spec, run.teacher_key, run.steps) for run in runs], splits, views,
            restore=keeper.restore, save=keeper.save, finish=keeper.finish, beat=keeper.beat,
        )  # fmt: skip
    except Stopped:
        return keeper.asked
    finally:
        if cache:
            cache.close()
    return False


def _teachers(runs: list[PlannedRun], splits, store: Store, where: str) -> tuple[dict, dict, dict]:
    """The teachers' networks, their test logits, and the weights of those that a method has prepared, all by key."""
    from kdlab.training import predict

    networks, test_logits, prepared = {}, {}, {}
    for key, run in {run.teacher_key: run for run in runs if run.teacher_key}.items():
        networks[key] = teacher_network(run.spec.teacher, key, splits, store).to(where)
        if run.teacher:
            prepared[key] = store.weights(key, "method")
        test_logits[key] = store.logits(key)["test"] if own_run(run) else predict(networks[key], splits.test)
    return networks, test_logits, prepared


def _teacher_cache(runs: list[PlannedRun], store: Store):
    """The cache of the teachers' outputs; None where it may take no room."""
    from kdlab.training import TeacherCache
    from kdlab.training.teacher_cache import limit

    if not limit():
        return None
    longest, machine = max(run.steps for run in runs), environment()["digest"]
    return TeacherCache(store.teacher_cache, longest, shared(runs[0].spec), machine, limit())


def _told(run: PlannedRun) -> dict[str, Any]:
    """What a lease says of its run, for displays."""
    spec = run.spec
    names = ("data", "model", "method", "augmentation", "views", "ratio", "seed")
    return {name: getattr(spec, name) for name in names} | {"steps": run.steps}


def data_of(train) -> dict[str, Any]:
    """What a network must know of its data to be used elsewhere.

    Args:
        train: the ImageSet that it learned from.
    """
    channels, height, width = train.images.shape[1:]
    return {
        "classes": list(train.classes), "channels": channels, "height": height, "width": width,
        "mean": list(train.mean), "std": list(train.std),
    }  # fmt: skip


class Keeper:
    """Writes what a cohort in training gives to the store: checkpoints, heartbeats, results.

    Args:
        store: where runs live.
        runs: of the cohort.
        stop: a file whose appearance asks for a clean stop.
        test_logits: of the teachers by their keys, for the students' agreement with them.
        tick: called every half second, or None.
    """

    def __init__(
        self,
        store: Store,
        runs: list[PlannedRun],
        stop: Path,
        test_logits: dict,
        tick: Callable[[], None] | None,
    ):
        self.store, self.stop, self.test_logits, self.tick = store, stop, test_logits, tick
        self.runs = {run.key: run for run in runs}
        self.told = {run.key: _told(run) for run in runs}
        self.beaten, self.saved, self.asked = 0.0, time.monotonic(), False

    def restore(self, arm) -> None:
        """Bring an arm to its checkpoint, if it has one."""
        if saved := self.store.load_checkpoint(arm.key, environment()["digest"]):
            try:
                with damage.reading(arm.key, "its checkpoint"):
                    arm.load_state(*saved)
            except damage.Damaged as error:  # the arm may be half loaded: nobody may go on with it
                self.store.drop_checkpoint(error)
                raise

    def save(self, arm) -> None:
        """Write an arm's checkpoint, unless another process has taken the run over meanwhile."""
        if self.store.owns(arm.key):
            tensors, plain = arm.state()
            self.store.save_checkpoint(arm.key, tensors, plain, environment()["digest"])

    def finish(self, arm, result) -> None:
        """Put a result into the store."""
        known = arm.teacher_key and not result.numbers["diverged"]
        agreement = metrics.agreement(result.logits["test"], self.test_logits[arm.teacher_key]) if known else math.nan
        numbers = result.numbers | {"agreement": 100 * agreement, "curve": result.curve}
        numbers |= columns(score(self.runs[arm.key], self.store) if arm.teacher_key else None)
        documents = {
            "spec": {"spec": arm.spec.to_dict(), "normal": normal(arm.spec)},
            "result": numbers,
            "environment": environment(),
            "data": data_of(arm.views.train),
            "cost": arm.cost() | arm.views.spent,
        }
        tensors = {"logits": result.logits, "student": result.student, "method": result.method}
        self.store.write(arm.key, documents, tensors)

    def beat(self, waiting: list) -> bool:
        """Heartbeat every half second, checkpoints now and then; True when training should stop.

        It should when asked to (then ``asked``), and when a run is not ours any more, since we gave no sign of life
        for so long: then whoever waits for the others claims them anew.
        """
        now = time.monotonic()
        if now - self.beaten < BEAT_EVERY:
            return False
        self.beaten = now
        ours = self.store.heartbeats({arm.key: arm.progress() | {"run": self.told[arm.key]} for arm in waiting})
        if self.tick:
            self.tick()
        if now - self.saved > SAVE_EVERY:
            self.saved = now
            for arm in waiting:
                self.save(arm)
        parent = multiprocessing.parent_process()  # None where nobody started us as a worker
        self.asked = self.stop.exists() or (parent is not None and not parent.is_alive())
        return self.asked or not ours
