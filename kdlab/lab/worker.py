"""Between lab and training: one cohort in one process, its claims, checkpoints, results and progress."""

from __future__ import annotations

import functools
import json
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kdlab import data, metrics
from kdlab.errors import SpecError
from kdlab.foreign import weightfile
from kdlab.lab import damage
from kdlab.lab.environment import environment
from kdlab.lab.keys import key as run_key
from kdlab.lab.keys import normal, steps, teacher_key
from kdlab.lab.store import Store
from kdlab.lab.teachers import columns, keep, known, measure, own_run, refused
from kdlab.lab.validation import class_names
from kdlab.memo import asking_once
from kdlab.spec import Checkpoint, RunSpec

SAVE_EVERY = 30.0
TAUGHT = ".taught"  # folder of kept teacher outputs in the store, beside the runs
BEAT_EVERY = 0.5
CLOSE = 0.05  # of means and deviations in [0, 1], as far as two sets may differ and nobody needs to know


_training = threading.Lock()


def quiet() -> None:
    """Start a worker: Ctrl-C belongs to the parent, which asks for a clean stop; one thread a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever; let it finish what it saves, then end it."""
    multiprocessing.parent_process().join()
    with _training:
        os._exit(0)


def train_cohort(specs: dict[str, RunSpec], root: Path, stop: Path, tick: Callable[[], None] | None = None) -> None:
    """Train the runs of a cohort that nobody else has or holds, and wait for the others.

    Args:
        specs: runs by key; all share data, subset, seed and originals per step.
        root: folder of the store.
        stop: a file whose appearance asks for a clean stop.
        tick: called every half second, in this process.
    """
    store = Store(root)
    while todo := [k for k in specs if not store.has(k)]:
        mine = [k for k in todo if store.claim(k)]
        if not mine:
            if stop.exists():
                return
            time.sleep(BEAT_EVERY)
            continue
        try:
            with _training:
                stopped = _train_claimed({k: specs[k] for k in mine if not store.has(k)}, store, stop, tick)
        finally:
            store.release(mine)
        if stopped or stop.exists():
            return


def _train_claimed(specs: dict[str, RunSpec], store: Store, stop: Path, tick) -> bool:
    """Train runs to the end, or until asked to stop: then True."""
    from kdlab.training import Arm, Stopped, TeacherCache, Views, device, predict, train
    from kdlab.training.teacher_cache import limit

    if not specs:
        return False
    with asking_once():
        moved = [key for key, spec in specs.items() if run_key(spec) != key]
    if moved:  # files were edited since
        raise SpecError(f"the data or the source of a part changed after run {moved[0]} was planned; start it again.")
    first = next(iter(specs.values()))
    where = device()
    splits = _splits(first.data, first.sizes, data.fingerprint(first.data))
    splits = splits._replace(val=splits.val.to(where), test=splits.test.to(where))
    subset = splits.train.subset(first.fraction, first.seed).to(where)
    teachers, taught, prepared = {}, {}, {}
    for teacher in (s.teacher for s in specs.values()):
        if teacher is not None and (key := teacher_key(teacher)) not in teachers:
            teachers[key] = _teacher(teacher, key, splits, store).to(where)
            ours = own_run(first.replace(teacher=teacher))
            if isinstance(teacher, RunSpec):
                prepared[key] = store.weights(key, "method")
            taught[key] = store.logits(key)["test"] if ours else predict(teachers[key], splits.test)
    arms = [Arm(k, s, s.teacher and teacher_key(s.teacher), steps(s)) for k, s in specs.items()]
    cache = None
    if teachers and where == "cpu" and first.precision == "float32" and limit():
        longest, machine = max(arm.total_steps for arm in arms), environment()["digest"]
        cache = TeacherCache(store.root / TAUGHT, longest, shared(first), machine, limit())
    views = Views(
        subset, first.seed, first.replicate, first.budget.originals_per_step, teachers, where,
        autocast=first.precision == "bfloat16", prepared=prepared, teacher_cache=cache, role=first.streams,
    )  # fmt: skip
    keeper = Keeper(store, stop, taught, tick, views)
    try:
        train(
            arms, splits, views,
            restore=keeper.restore, save=keeper.save, finish=keeper.finish, beat=keeper.beat,
        )  # fmt: skip
    except Stopped:
        return True
    finally:
        if cache:
            cache.close()
    return False


@functools.lru_cache(maxsize=1)
def _splits(name: str, sizes: tuple[int, int, int] | None, fingerprint: str):
    """The data of the last cohort, which mostly is the next one's too."""
    return data.load(name, sizes=sizes)


def shared(spec: RunSpec) -> dict[str, Any]:
    """What the runs of a cohort have in common, as far as it decides their views."""
    return {
        "data": data.fingerprint(spec.data), "sizes": data.sizes(spec.data, spec.sizes),
        "fraction": float(spec.fraction), "seed": spec.seed, "replicate": spec.replicate, "streams": spec.streams,
        "originals": spec.budget.originals_per_step,
    }  # fmt: skip


class Keeper:
    """What a cohort in training tells the store: checkpoints, heartbeats, results.

    Args:
        store: where runs live.
        stop: a file whose appearance asks for a clean stop.
        taught: the teachers' test logits by teacher key, for the students' agreement with them.
        tick: called every half second, or None.
        views: of the cohort; they know what making them and asking teachers took.
    """

    def __init__(self, store: Store, stop: Path, taught: dict, tick: Callable[[], None] | None, views):
        self.store, self.stop, self.taught, self.tick, self.views = store, stop, taught, tick, views
        self.beaten, self.saved = 0.0, time.monotonic()

    def restore(self, arm) -> None:
        """Bring an arm to its checkpoint, if it has one."""
        if saved := self.store.load_checkpoint(arm.key):
            try:
                with damage.reading(arm.key, "its checkpoint"):
                    arm.load_state(*saved)
            except damage.Damaged as error:  # the arm may be half loaded: nobody may go on with it
                self.store.drop_checkpoint(error)
                raise

    def save(self, arm) -> None:
        """Write an arm's checkpoint."""
        self.store.save_checkpoint(arm.key, *arm.state())

    def finish(self, arm, result) -> None:
        """Put a result into the store."""
        known = arm.teacher_key and not result.numbers["diverged"]
        agreement = metrics.agreement(result.logits["test"], self.taught[arm.teacher_key]) if known else math.nan
        numbers = result.numbers | {"agreement": 100 * agreement, "curve": result.curve}
        numbers |= columns(score(arm.spec, self.store) if arm.teacher_key else None)
        documents = {
            "spec": {"spec": arm.spec.to_dict(), "normal": normal(arm.spec)},
            "result": numbers,
            "environment": environment(),
            "data": self._data(),
            "cost": arm.cost() | self.views.spent,
        }
        tensors = {"logits": result.logits, "student": result.student, "method": result.method}
        self.store.write(arm.key, documents, tensors)

    def _data(self) -> dict[str, Any]:
        """What a network must know of its data to be used elsewhere."""
        train = self.views.train
        channels, height, width = train.images.shape[1:]
        return {
            "classes": list(train.classes), "channels": channels, "height": height, "width": width,
            "mean": list(train.mean), "std": list(train.std),
        }  # fmt: skip

    def beat(self, waiting: list) -> bool:
        """Heartbeat every half second, checkpoints now and then; True when asked to stop."""
        now = time.monotonic()
        if now - self.beaten < BEAT_EVERY:
            return False
        self.beaten = now
        for arm in waiting:
            self.store.heartbeat(arm.key, **arm.progress())
        if self.tick:
            self.tick()
        if now - self.saved > SAVE_EVERY:
            self.saved = now
            for arm in waiting:
                self.save(arm)
        parent = multiprocessing.parent_process()  # None where nobody started us as a worker
        return self.stop.exists() or (parent is not None and not parent.is_alive())


def _teacher(teacher: RunSpec | Checkpoint, key: str, splits, store: Store):
    """The frozen network of a teacher, in eval mode.

    Raises:
        SpecError: when a checkpoint's file is missing, is another file than its digest says, or does not fit.
    """
    from kdlab.models import build, load_teacher
    from kdlab.models.checkpoints import fit
    from kdlab.models.heads import in_order

    numbers = len(splits.train.classes), splits.train.images.shape[1]
    if isinstance(teacher, RunSpec):
        model = build(teacher.model, *numbers, seed=0, **teacher.model_options)
        fit(model, store.weights(key), teacher.model)
        return model.eval().requires_grad_(False)
    weightfile.check(teacher)
    model = load_teacher(teacher.arch, teacher.path, *numbers, **{**teacher.options, "weights": teacher.weights})
    x = splits.val.normalise(splits.val.images[:8]).cpu()
    return in_order(model, teacher.classes, splits.val.classes, x)


def read(specs: Iterable[RunSpec]) -> list[str]:
    """Read every file of weights that teaches, once, so that what cannot be used is refused before the plan is told.

    Args:
        specs: what is to be trained; those without a checkpoint are passed over.

    Returns:
        A sentence for each file: whose weights it holds, and which of them are taken.

    Raises:
        SpecError: for a file that is none of weights, or whose weights do not fit the data.
    """
    said = {}
    for spec in specs:
        if isinstance(spec.teacher, Checkpoint) and (asked := (teacher_key(spec.teacher), spec.data)) not in said:
            from kdlab.models.checkpoints import taken

            there = data.facts(spec.data)
            said[asked] = taken(spec.teacher, there["classes"], there["channels"]) + _other_rule(spec)
    return list(said.values())


def _other_rule(spec: RunSpec) -> str:
    """A sentence where a teacher's file was trained on images normalised by other numbers than its student's are."""
    held = weightfile.metadata(Path(spec.teacher.path))
    if "mean" not in held or "std" not in held:
        return ""
    train = _splits(spec.data, spec.sizes, data.fingerprint(spec.data)).train
    theirs, ours = [*json.loads(held["mean"]), *json.loads(held["std"])], [*train.mean, *train.std]
    if len(theirs) == len(ours) and all(abs(a - b) < CLOSE for a, b in zip(theirs, ours, strict=True)):
        return ""
    words = (", ".join(f"{value:.2f}" for value in values) for values in (theirs, ours))
    return " It was trained on images of mean and deviation {}; here it sees them normalised by {}.".format(*words)


def score(spec: RunSpec, store: Store) -> dict[str, Any]:
    """The score of a spec's teacher on the spec's val images (``teachers.measure``), found once and kept.

    Args:
        spec: of the student.
        store: where the teacher's run is, and scores are kept.

    Raises:
        SpecError: when the teacher cannot be loaded.
    """
    if (found := known(spec, store)) is not None:
        return found
    from kdlab.training import device, predict
    from kdlab.training.runtime import one_thread

    where = device()
    splits = _splits(spec.data, spec.sizes, data.fingerprint(spec.data))
    model = _teacher(spec.teacher, teacher_key(spec.teacher), splits, store).to(where)
    with one_thread():
        logits = predict(model, splits.val.to(where))
    found = measure(logits, splits.val.labels.cpu().numpy(), splits.val.classes)
    bad = next((name for name, values in model.state_dict().items() if not values.isfinite().all()), None)
    if found["broken"] and bad:
        found["broken"] += f" (its weight {bad!r} holds numbers that are not)"
    keep(spec, store, found)
    return found


def examine(specs: Iterable[RunSpec], store: Store) -> None:
    """Refuse checkpoints that should not teach: changed, of other classes, broken, or not above chance.

    Args:
        specs: what is to be trained; those without a checkpoint are passed over.
        store: where scores are kept.

    Raises:
        SpecError: for the first such file, with the reason.
    """
    taught = {(teacher_key(s.teacher), s.data, s.sizes): s for s in specs if isinstance(s.teacher, Checkpoint)}
    for spec in taught.values():
        from kdlab.models.heads import check_names

        weightfile.check(spec.teacher)
        check_names(spec.teacher, class_names(spec.data), spec.data)
        if said := refused(spec.teacher, spec.data, score(spec, store)):
            raise SpecError(said)
