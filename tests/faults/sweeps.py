"""One warm process that forks sweeps, kills, pauses and starves them, and says what came of it, as JSON.

    python sweeps.py FUNCTION ROOT [NUMBER ...]

Loading torch takes longer than the whole sweep, so that a fresh process for each of them would mostly start.
"""

import contextlib
import errno
import functools
import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import logged  # noqa: F401  the workers find it as we did

from kdlab import lab
from kdlab.errors import SpecError
from kdlab.lab import leases, ledger, process, worker
from kdlab.lab.store import Store
from kdlab.spec import Budget, RunSpec

TEACHER = RunSpec(sizes=(320, 100, 100), model="resnet8_s2_w4", budget=Budget(4, "steps", 32), role="teacher")
BASE = TEACHER.replace(role="student", method="logged:Logged", teacher=TEACHER, budget=Budget(16, "steps", 32))
SPECS = [BASE.replace(method_options={"temperature": 2.0 + n}, seed=n % 2) for n in range(4)]
KEYS = {lab.run_key(spec): spec for spec in SPECS}
FILES = {f"{name}.json" for name in ("spec", "result", "environment", "data", "cost", "done")}
FILES |= {f"{name}.safetensors" for name in ("student", "logits", "method")}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
OTHER_WRITES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.utime")
FULL = {errno.ENOSPC: ("open", "os.mkdir", "os.truncate"), errno.EROFS: ("open", *OTHER_WRITES)}


def sweep(root, specs=SPECS, workers=0):
    return lab.run(specs, workers=workers, progress=False, store=Store(root), require_teacher=False)


def at_write(root, happen):
    """Call a function before every write below a folder, with the number of the write, what it is, and its file."""
    count = [0]

    def hook(event, given):
        writes = event in OTHER_WRITES or (event == "open" and given[2] & WRITING)
        if writes and not isinstance(given[0], int) and Path(os.fsdecode(given[0])).is_relative_to(root):
            count[0] += 1
            happen(count[0], event, given[0])

    sys.addaudithook(hook)


def forked(work, prepare=lambda: None):
    """Do some work in a process of its own, with checkpoints at nearly every step."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        worker.SAVE_EVERY, worker.BEAT_EVERY = 0.05, 0.01
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


def ended(pid):
    """How a process ended: its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def results(root):
    """What must be the same however often a sweep was disturbed."""
    store, found = Store(root), {}
    for key in (lab.run_key(TEACHER), *KEYS):
        numbers = {name: value for name, value in store.read(key, "result").items() if name not in ledger.TIMED}
        weights = {name: value.numpy().tobytes().hex() for name, value in sorted(store.weights(key).items())}
        logits = {name: value.tobytes().hex() for name, value in store.logits(key).items()}
        found[key] = json.dumps([numbers, weights, logits], sort_keys=True)
    return found


def strays(root):
    """Files in a store that belong to no finished run and to nothing that is kept."""
    kept = (".taught", ".linear", ".teachers")
    files = [path.relative_to(root) for path in Path(root).rglob("*") if path.is_file()]
    return [str(f) for f in files if f.parts[0] not in kept and f.name not in FILES and str(f) != ".lock"]


def steps(log):
    """The steps that were taken: which run, which step, which process."""
    with contextlib.suppress(FileNotFoundError):
        return [tuple(map(float, line.split())) for line in Path(log).read_text().splitlines()]
    return []


def temperature(key):
    return KEYS[key].method_options["temperature"]


@functools.cache
def undisturbed():
    """What a sweep gives that nothing happens to."""
    root = f"{os.environ['KDLAB_OUT']}/undisturbed"
    os.environ["STEPS_LOG"] = f"{root}.log"
    assert ended(forked(lambda: sweep(root))) == 0
    return results(root)


def short(root):
    """A little of everything."""
    return {
        "kill": kill(f"{root}/kill", 3), "together": together(f"{root}/together", 2),
        "starve": starve(f"{root}/starve", errno.ENOSPC, 240),
    }  # fmt: skip


# ---- SIGKILL ---------------------------------------------------------------------------------------------------------


def kill(root, number):
    """Kill sweeps so many times, at a random write or at a random moment, and go on each time with the same command."""
    chance, whole = random.Random(7), undisturbed()
    Path(root).mkdir(parents=True, exist_ok=True)
    said, kills, rounds = Counter(), 0, 0
    while kills < number:
        place, rounds = f"{root}/{rounds}", rounds + 1
        os.environ["STEPS_LOG"] = f"{place}.log"
        while True:
            kills += (killed := once_killed(place, chance, said, kills < number))
            if not killed:
                break
        said["other results"] += results(place) != whole
        said["stray files"] += len(left := strays(place))
        if left:
            print(left, file=sys.stderr)
    return dict(said) | {"kills": kills, "sweeps": rounds}


def once_killed(place, chance, said, kill):
    """A sweep that goes on where the last one was killed, killed in turn; False when it came to its end."""
    store, taken = Store(place), len(steps(f"{place}.log"))
    finished = {key for key in KEYS if store.has(key)}
    begun = {key: store.steps_done(key) for key in KEYS}
    nth = chance.choice([None, chance.randrange(1, 40), chance.randrange(1, 900)]) if kill else 0

    def die(count, event, file):
        if count == nth:
            os.write(2, f"killed at {event} of {Path(os.fspath(file)).relative_to(place)}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    pid = forked(lambda: sweep(place), lambda: at_write(place, die) if nth else None)
    if nth is None:
        time.sleep(chance.uniform(0.0, 2.0))
        os.kill(pid, signal.SIGKILL)
    code = ended(pid)
    assert code in (0, -signal.SIGKILL), f"a sweep that nothing but SIGKILL should end gave {code}"
    first = {}
    for which, step, _ in steps(f"{place}.log")[taken:]:
        first.setdefault(which, step)
    for key in KEYS:
        at = first.get(temperature(key))
        said["trained twice"] += at is not None and (key in finished or at < begun[key])
    return code != 0


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
        "steps": len(taken), "repeated": sum(count - 1 for count in taken.values()),
    }  # fmt: skip


def apart(disturb, n):
    """As if each process were on a machine of its own, for which only heartbeats tell who lives."""
    if disturb == "pause elsewhere":
        process.socket.gethostname = lambda: f"machine{n}"
        process._me.cache_clear()
        leases.LEASE_SECONDS = 1.0


# ---- disks that refuse -----------------------------------------------------------------------------------------------


def starve(root, number, every):
    """From the nth write on the disk refuses, for n = 1, 1 + every, ...; then there is room, and the sweep goes on."""
    whole, said, nth, last = undisturbed(), Counter(), 1, 0
    Path(root).mkdir(parents=True, exist_ok=True)
    while True:
        place = f"{root}/{nth}"
        os.environ["STEPS_LOG"] = f"{place}.log"

        def refuse(count, event, file, nth=nth):
            if count >= nth and event in FULL[number]:
                raise OSError(number, os.strerror(number), os.fspath(file))

        code = ended(forked(lambda: sweep(place), lambda: at_write(place, refuse)))  # noqa: B023
        said[{0: "went on", 3: "refused in words"}.get(code, "failed")] += 1
        said["harmed runs"] += sum(bool(Store(place).damaged(key)) for key in Store(place).keys())
        said["failed later"] += ended(forked(lambda: sweep(place))) != 0  # noqa: B023
        said["other results"] += results(place) != whole
        said["stray files"] += len(strays(place))
        nth, last = nth + every, last + 1 if code == 0 else 0
        if last > 2 or nth > 2000:
            return dict(said)


def fill(root, kilobytes):
    """A sweep on a small disk of its own, nearly filled by a stranger's file, which is then removed."""
    whole, place = undisturbed(), f"{root}/disk/runs"
    os.environ["STEPS_LOG"] = f"{root}/disk.log"
    stranger = Path(root) / "disk" / "stranger"
    space = os.statvfs(stranger.parent)
    stranger.write_bytes(b"\1" * (space.f_bavail * space.f_frsize - 1024 * kilobytes))
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
