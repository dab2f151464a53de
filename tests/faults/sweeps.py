"""One warm process that forks sweeps, kills, pauses and starves them, and says what came of it, as JSON.

    python sweeps.py FUNCTION ROOT [NUMBER or WORD ...]

Loading torch takes longer than the whole sweep, so that a fresh process for each of them would mostly start. So the
first sweep, the undisturbed one, runs in this process, and all others, and their workers, are forks of it.
"""

import builtins
import contextlib
import errno
import functools
import io
import itertools
import json
import multiprocessing.context
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import logged

from kdlab import lab
from kdlab.errors import SpecError
from kdlab.lab import leases, ledger, process, processes, worker
from kdlab.lab.store import Store
from kdlab.spec import Budget, RunSpec

STEPS = 8
TEACHER = RunSpec(sizes=(320, 100, 100), model="resnet8_s2_w4", method="logged:LoggedTeacher",
                  budget=Budget(4, "steps", 32), role="teacher")  # fmt: skip
BASE = TEACHER.replace(role="student", method="logged:Logged", teacher=TEACHER, budget=Budget(STEPS, "steps", 32))
SPECS = [BASE.replace(method_options={"temperature": 2.0 + n}, seed=n // 2) for n in range(4)]
NAMES = {lab.run_key(spec): spec.method_options["temperature"] for spec in SPECS} | {lab.run_key(TEACHER): 0}
FILES = {f"{name}.json" for name in ("spec", "result", "environment", "data", "cost", "done")}
FILES |= {f"{name}.safetensors" for name in ("student", "logits", "method")}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
OTHER_WRITES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.utime")
WITHIN = ("write", "fsync", "close", "pwrite")
FULL = {errno.ENOSPC: ("open", "os.mkdir", "os.truncate", *WITHIN), errno.EROFS: ("open", *OTHER_WRITES)}
KINDS = ("done", "checkpoint", "lease", "building", "taught", "stop")
LEFT_SECONDS = 120.0  # that processes get to end after the one that started them


def sweep(root, specs=SPECS, workers=0):
    return lab.run(specs, workers=workers, progress=False, store=Store(root), require_teacher=False)


def kind(place):
    """What a file of a store is, by its place in it."""
    first = place.parts[0] if place.parts else ""
    known = {".building": "done" if place.name == "done.json" else "building", ".checkpoints": "checkpoint"}
    known |= {".leases": "lease", ".taught": "taught"}
    return known.get(first, "stop" if first.startswith(".stop") else first or "store")


class Torn(io.FileIO):
    """A file in which something may happen when half of what is written is there, and before it is closed."""

    def __init__(self, file, mode, happen):
        super().__init__(file, mode)
        self.happen = happen

    def write(self, content):
        content = bytes(content)
        written = super().write(content[: len(content) // 2])
        self.happen("write", self.name)
        return written + super().write(content[written:])

    def close(self):
        try:
            if not self.closed:
                self.happen("close", self.name)
        finally:
            super().close()


def at_write(root, happen):
    """Call a function at every write below a folder, with its number, what it is, and the file's place there.

    That is before a file is opened, moved or removed, in the middle of what is written, before it is synced or closed.
    """
    count, names, root = [0], {}, os.path.abspath(root)

    def seen(event, file):
        if not isinstance(file, int) and Path(file := os.fsdecode(file)).is_relative_to(root):
            count[0] += 1
            happen(count[0], event, Path(file).relative_to(root))

    def hook(event, given):
        if event in OTHER_WRITES or (event == "open" and given[2] & WRITING):
            seen(event, names.get(given[0], given[0]))

    def torn(file, mode="r", *given, **options):
        if mode.strip("bt") not in ("w", "x", "a") or isinstance(file, int):
            return plain["open"](file, mode, *given, **options)
        raw = Torn(file, mode.replace("b", "").replace("t", ""), seen)
        names[raw.fileno()] = os.fspath(file)
        return io.BufferedWriter(raw) if "b" in mode else io.TextIOWrapper(io.BufferedWriter(raw), "utf-8")

    def os_open(file, *given, **options):
        number = plain["os_open"](file, *given, **options)
        names[number] = os.fspath(file)
        return number

    def fsync(number):
        seen("fsync", names.get(number, number))
        plain["fsync"](number)

    def pwrite(number, content, place):
        half = len(content) // 2
        plain["pwrite"](number, content[:half], place)
        seen("pwrite", names.get(number, number))
        return half + plain["pwrite"](number, content[half:], place + half)

    plain = {"open": io.open, "os_open": os.open, "fsync": os.fsync, "pwrite": os.pwrite}
    builtins.open = io.open = torn
    os.open, os.fsync, os.pwrite = os_open, fsync, pwrite
    sys.addaudithook(hook)


class Forks(multiprocessing.context.ForkContext):
    """Workers of a pool that start at once."""

    def __init__(self):
        super().__init__()
        self.started = []

    def Process(self, *given, **options):
        self.started.append(multiprocessing.context.ForkProcess(*given, **options))
        return self.started[-1]


def forked(work, prepare=lambda: None, fresh=False):
    """Do some work in a process of its own, with checkpoints at nearly every step.

    Args:
        work: what to do.
        prepare: what to do before.
        fresh: whether its workers start as they do elsewhere, and load everything anew; else they are forks.
    """
    sys.stdout.flush()
    if pid := os.fork():
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        return pid
    code = 1
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        worker.SAVE_EVERY, worker.BEAT_EVERY, processes.LOOK_EVERY = 0.05, 0.01, 0.05
        save, Store.save_checkpoint = Store.save_checkpoint, lambda *given: saved(save, *given)
        if not fresh:
            processes._Context = Forks
        prepare()
        work()
        code = 0
    except SpecError as error:
        print(f"refused: {error}", file=sys.stderr, flush=True)
        code = 3
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def saved(save, store, key, tensors, plain, *more):
    save(store, key, tensors, plain, *more)
    logged.write(NAMES[key], plain["step"], "saved")


def ended(pid):
    """How a process ended: its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def lives(pid):
    """Whether a child has not ended yet; what it ended with can still be asked for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def descendants(pid):
    """Processes that a sweep has started and that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
            found += [int(path.parent.name)] * (int(group) == pid and state not in "ZX")
    return found


def outlived(pid):
    """How many processes that a sweep has started are there long after it."""
    until = time.monotonic() + LEFT_SECONDS
    while (left := descendants(pid)) and time.monotonic() < until:
        time.sleep(0.02)
    for one in left:
        os.kill(one, signal.SIGKILL)
    return len(left)


def results(root):
    """What must be the same however often a sweep was disturbed."""
    store, found = Store(root), {}
    for key in NAMES:
        numbers = {name: value for name, value in store.read(key, "result").items() if name not in ledger.TIMED}
        weights = {name: value.numpy().tobytes().hex() for name, value in sorted(store.weights(key).items())}
        logits = {name: value.tobytes().hex() for name, value in store.logits(key).items()}
        found[key] = json.dumps([numbers, weights, logits], sort_keys=True)
    return found


def strays(root):
    """Files in a store that belong to no finished run and to nothing that is kept."""
    kept = (".taught", ".linear", ".teachers")
    files = [path.relative_to(root) for path in Path(root).rglob("*") if path.is_file()]
    files = [file for file in files if file.parts[0] not in kept or file.name.endswith(".part")]
    return [str(file) for file in files if file.name not in FILES and str(file) != ".lock"]


def lines(log):
    with contextlib.suppress(FileNotFoundError):
        return [(*map(float, line.split()[:3]), line.split()[3]) for line in Path(log).read_text().splitlines()]
    return []


def steps(log):
    """The steps that were taken: which run, which step, which process."""
    return [line[:3] for line in lines(log) if line[3] == "step"]


def trained_twice(log):
    """Steps that were taken though the run's checkpoint held them already."""
    held, found = Counter(), 0
    for which, step, _, what in lines(log):
        if what == "saved":
            held[which] = max(held[which], step)
        found += what == "step" and step < held[which]
    return found


@functools.cache
def undisturbed():
    """What a sweep gives that nothing happens to."""
    root = f"{os.environ['KDLAB_OUT']}/undisturbed"
    os.environ["STEPS_LOG"] = f"{root}.log"
    sweep(root)
    assert {which for which, *_ in steps(f"{root}.log")} == set(NAMES.values()), "the teacher's steps are seen, too"
    return results(root)


def short(root):
    """A little of everything."""
    del SPECS[3:]  # two in a cohort, and one apart
    for key in NAMES.keys() - {lab.run_key(spec) for spec in (*SPECS, TEACHER)}:
        del NAMES[key]
    turns = [("done", 0, "parent", "forks"), (None, 2, "parent", "forks"), (None, 2, "worker", "forks")]
    return {
        "kill": killed(f"{root}/kill", turns, 3), "together": together(f"{root}/together", 2),
        "starve": starve(f"{root}/starve", errno.ENOSPC, 0),
    }  # fmt: skip


# ---- SIGKILL ---------------------------------------------------------------------------------------------------------


def kill(root, number, workers=0, who="parent", how="forks"):
    """Kill sweeps so many times, and go on each time with the same command.

    Each in its turn at a random moment, at a random write, or at a random one of each kind of write.

    Args:
        root: folder of their stores.
        number: of kills.
        workers: of each sweep; 0 trains in the process that is killed.
        who: ``"parent"``, or one ``"worker"`` of it.
        how: whether workers are ``"forks"`` or start ``"fresh"``, as they do elsewhere.
    """
    own = KINDS if not workers else KINDS[:-1] if who == "worker" else KINDS[-1:]
    aims = [None] if how == "fresh" else [None, *own, "any"]
    return killed(root, [(aim, workers, who, how) for aim in aims], number)


def killed(root, turns, number):
    """So many kills, in turn: at which kind of write, of how many workers, of whom, and how workers start.

    A kill that came too late, because the sweep had ended, stays the next one's turn.
    """
    chance, whole, turns = random.Random(str(turns)), undisturbed(), itertools.cycle(turns)
    Path(root).mkdir(parents=True, exist_ok=True)
    said, rounds, turn = Counter(), 0, next(turns)
    while said["kills"] < number:
        place, rounds = f"{root}/{rounds}", rounds + 1
        os.environ["STEPS_LOG"], os.environ["KILLS_LOG"] = f"{place}.log", f"{place}.kills"
        going = True
        while going:  # where nobody is killed, it ends, and has looked for what those that were have left
            going = once(place, chance, said, *(turn if said["kills"] < number else ("", 0, "parent", "forks")))
            if going:
                said["kills"], turn = said["kills"] + 1, next(turns)
        said["trained twice"] += trained_twice(f"{place}.log")
        said["other results"] += results(place) != whole
        said["stray files"] += len(left := strays(place))
        if left:
            print(left, file=sys.stderr)
        hits = Path(f"{place}.kills").read_text().splitlines() if Path(f"{place}.kills").exists() else []
        said.update(f"killed at {hit}" for hit in hits)
    return dict(said) | {"sweeps": rounds}


def once(place, chance, said, aim, workers, who, how):
    """A sweep that goes on where the last one was killed; whether it was killed in turn.

    Args:
        place: its store.
        chance: random numbers.
        said: what is counted.
        aim: a kind of write, ``"any"``, None for a moment, or empty for none.
        workers: of the sweep.
        who: is killed.
        how: whether workers are ``"forks"`` or start ``"fresh"``.
    """
    store, me, seen, sign = Store(place), [0], Counter(), Path(f"{place}.died")
    if sign.exists():
        sign.rmdir()
    for key, name in NAMES.items():
        logged.write(name, float("inf") if store.has(key) else store.steps_done(key), "saved")
    taken = len(steps(os.environ["STEPS_LOG"]))
    few = workers and who == "parent"  # writes
    nth = chance.randrange(1, 8 if few else 400) if aim == "any" else chance.randrange(1, 4 if few else 30)
    nth = chance.randrange(1, 5) if aim == "done" else nth

    def die(count, event, file):
        seen[kind(file)] += 1
        at = count if aim == "any" else seen[kind(file)] if aim == kind(file) else 0
        if at == nth and (not workers or (who == "parent") == (os.getpid() == me[0])):
            with contextlib.suppress(FileExistsError):
                os.mkdir(sign)
                note(f"{event} of {kind(file)}, {who}")
                os.kill(os.getpid(), signal.SIGKILL)

    def prepare():
        me[0] = os.getpid()
        if aim:
            at_write(place, die)

    pid = forked(lambda: sweep(place, workers=workers), prepare, how == "fresh")
    if aim is None:
        until, later = taken + chance.randrange(1, 2 * STEPS), chance.uniform(0.0, 0.2)
        while lives(pid) and len(steps(os.environ["STEPS_LOG"])) < until:
            time.sleep(0.01)
        time.sleep(later)
        held = [leases.read_lease(path) or {} for path in Path(place, ".leases").glob("[!.]*")]
        trains = [one["pid"] for one in held if one and one["pid"] != pid and process.alive(one)]
        victims = [pid] if who == "parent" else trains
        if victims and lives(pid):
            os.kill(chance.choice(victims), signal.SIGKILL)
            os.mkdir(sign)
            note(f"a random moment, {who}")
    code = ended(pid)
    killed = sign.exists() if who == "worker" else code == -signal.SIGKILL
    assert killed or code == 0, f"it gave {code}"
    said["outlived their parent"] += outlived(pid)
    return killed


def note(words):
    with open(os.environ["KILLS_LOG"], "a") as file:
        file.write(f"{words}\n")


# ---- several processes -----------------------------------------------------------------------------------------------


def together(root, number, disturb="", seed=0):
    """So many sweeps at once on one store, each with its own order; one of them may be killed or paused."""
    chance, whole = random.Random(seed), undisturbed()
    place = f"{root}/shared"
    Path(root).mkdir(parents=True, exist_ok=True)
    os.environ["STEPS_LOG"] = f"{place}.log"

    def work(n):
        mine = random.Random(n).sample(SPECS, 3) if n else SPECS
        table = sweep(place, mine)
        Path(f"{root}/table{n}.csv").write_text(table.sort_index().to_csv())

    pids = [forked(lambda n=n: work(n), lambda n=n: apart(disturb, n)) for n in range(number)]
    if disturb:
        while len(steps(f"{place}.log")) < 6:
            time.sleep(0.01)
        victim = int(steps(f"{place}.log")[-1][2])  # one that trains
        os.kill(victim, signal.SIGKILL if disturb == "kill" else signal.SIGSTOP)
        time.sleep(chance.uniform(3.0, 4.0))
        if disturb != "kill":
            os.kill(victim, signal.SIGCONT)
    codes = [ended(pid) for pid in pids]
    rows = {}
    for path in Path(root).glob("table*.csv"):
        for row in path.read_text().splitlines()[1:]:
            rows.setdefault(row.partition(",")[0], set()).add(row)
    taken = Counter((which, step) for which, step, _ in steps(f"{place}.log"))
    return {
        "codes": sorted(codes), "tables differ": sum(len(same) > 1 for same in rows.values()), "runs": len(rows),
        "other results": results(place) != whole, "stray files": len(strays(place)),
        "trained twice": trained_twice(f"{place}.log"), "steps": len(taken),
        "repeated": sum(count - 1 for count in taken.values()),
    }  # fmt: skip


def apart(disturb, n):
    """As if each process were on a machine of its own, for which only heartbeats tell who lives."""
    if disturb == "pause elsewhere":
        process.socket.gethostname = lambda: f"machine{n}"
        process._me.cache_clear()
        leases.LEASE_SECONDS = 1.0


# ---- disks that refuse -----------------------------------------------------------------------------------------------


def starve(root, number, every, workers=0):
    """From the nth write on the disk refuses; then there is room, and the sweep goes on.

    What is written to a full disk is there by half.

    Args:
        root: folder of their stores.
        number: ENOSPC or EROFS.
        every: n = 1, 1 + every, ..., and besides the first, the middle and the last of each kind of write; 0 takes
            one n in the middle.
        workers: of each sweep; n is counted in each process.
    """
    whole, said = undisturbed(), Counter()
    Path(root).mkdir(parents=True, exist_ok=True)
    for nth in [150] if not every else refused_at(f"{root}/counted", number, every):
        place = f"{root}/{nth}"
        os.environ["STEPS_LOG"] = f"{place}.log"

        def refuse(count, event, file, nth=nth):
            if count >= nth and event in FULL[number]:
                raise OSError(number, os.strerror(number), os.fspath(file))

        pid = forked(lambda: sweep(place, workers=workers), lambda: at_write(place, refuse))  # noqa: B023
        code = ended(pid)
        said["outlived their parent"] += outlived(pid)
        said[{0: "went on", 3: "refused in words"}.get(code, "failed")] += 1
        said["harmed runs"] += sum(bool(Store(place).damaged(key)) for key in Store(place).keys())
        said["failed later"] += ended(forked(lambda: sweep(place, workers=workers))) != 0  # noqa: B023
        said["trained twice"] += trained_twice(f"{place}.log")
        said["other results"] += results(place) != whole
        said["stray files"] += len(strays(place))
    return dict(said)


def refused_at(place, number, every):
    """Numbers of writes at which a disk begins to refuse."""
    os.environ["STEPS_LOG"] = f"{place}.log"
    written = Path(f"{place}.writes")

    def count(nth, event, file):
        if event in FULL[number]:
            with written.open("a") as out:
                out.write(f"{nth} {event} {kind(file)}\n")

    assert ended(forked(lambda: sweep(place), lambda: at_write(place, count))) == 0
    found = {}
    for line in written.read_text().splitlines():
        nth, what = line.split(" ", 1)
        found.setdefault(what, []).append(int(nth))
    own = {these[at] for these in found.values() for at in (0, len(these) // 2, -1)}
    return sorted(own | set(range(1, max(own) + 1, every)))


def fill(root, percent):
    """A sweep on a small disk of its own, nearly filled by a stranger's file, which is then removed.

    Args:
        root: of its store.
        percent: of what a finished store takes, which is the room that there is.
    """
    whole, place = undisturbed(), f"{root}/disk/runs"
    os.environ["STEPS_LOG"] = f"{root}/disk.log"
    stranger = Path(root) / "disk" / "stranger"
    space, page = os.statvfs(stranger.parent), os.sysconf("SC_PAGE_SIZE")
    finished = [path for path in Path(os.environ["KDLAB_OUT"], "undisturbed").rglob("*") if path.is_file()]
    taken = sum(-(-path.stat().st_size // page) * page for path in finished)
    stranger.write_bytes(b"\1" * (space.f_bavail * space.f_frsize - taken * percent // 100))
    code = ended(forked(lambda: sweep(place)))
    harmed = sum(bool(Store(place).damaged(key)) for key in Store(place).keys())
    stranger.unlink()
    later = ended(forked(lambda: sweep(place)))
    return {"code": code, "harmed runs": harmed, "later": later, "other results": results(place) != whole,
            "stray files": len(strays(place))}  # fmt: skip


if __name__ == "__main__":
    os.environ["KDLAB_OUT"] = sys.argv[2]
    os.environ["KDLAB_LEDGER"] = f"{sys.argv[2]}/ledger"
    Path(sys.argv[2]).mkdir(parents=True, exist_ok=True)
    asked = [int(word) if word.isdecimal() else word for word in sys.argv[3:]]
    print(json.dumps(globals()[sys.argv[1]](sys.argv[2], *asked)))
