"""``kdlab figures --until decided --at-most 2h``: whole seeds are added while looking, judged by a test that allows it.

What is decided follows from the finished seeds in their order alone (``kdlab.stats.sequential``). So it does not matter
what was shown when: an interrupted command, given again, takes what is there, looks, and goes on.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from kdlab import lab, stats
from kdlab.errors import SpecError, choose
from kdlab.lab.cohort import makespan
from kdlab.lab.rows import finished
from kdlab.perspectives import Study
from kdlab.spec import RunSpec

DECIDED = "decided"
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LAST = 99  # weights were tuned, and the regime chosen, on seeds from 100 on
LOOKS = "the sequential t-test judges, which may be looked at after every seed"


def time_limit(until: str | None, at_most: str | None) -> float | None:
    """The seconds of ``--at-most``; None where seeds are not added while looking.

    Args:
        until: ``"decided"`` or None.
        at_most: a length of time, such as ``90m``, ``2h`` or ``1h30m``; goes with ``until``.

    Raises:
        SpecError: for one without the other, and for what is no length of time.
    """
    if until is None:
        if at_most is not None:
            raise SpecError(f"--at-most {at_most} needs --until decided: nothing else is stopped by a clock.")
        return None
    choose("--until", until, [DECIDED])
    if at_most is None:
        raise SpecError(
            "--until decided needs --at-most, a length of time such as 2h: where there is no effect and a narrow "
            "margin, seeds may be added for days."
        )
    return duration(at_most)


def duration(text: str) -> float:
    """Seconds of a length of time: ``90m``, ``2h``, ``1h30m``, ``1.5 h``.

    Raises:
        SpecError: for anything else, and for nothing.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip().lower())
    written = "".join(number + unit for number, unit in parts)
    seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
    if written != re.sub(r"\s+", "", text.lower()) or not seconds:
        raise SpecError(
            f"--at-most must be a length of time above 0 with its unit (s, m, h or d), such as 90m, 2h or 1h30m, but "
            f"got {text!r}."
        )
    return seconds


def sequential(study: Study, seeds: Sequence[int]) -> Study:
    """The study at these seeds, judged by the sequential t-test."""
    return replace(study, profile=replace(study.profile, seeds=tuple(seeds), design="sequential"))


def whole(study: Study) -> tuple[int, ...]:
    """The seeds of a study, from the first on, of which every run is finished."""
    parts = ((seed, [spec.at_seed(seed) for spec in study.arms.values()]) for seed in study.profile.seeds)
    return tuple(seed for seed, _ in itertools.takewhile(lambda part: finished(part[1]), parts))


def undecided(study: Study) -> list[str]:
    """The names of the claims that the seeds of a study do not decide."""
    claims = [contrast.name for contrast in study.contrasts if contrast.role == "claim"]
    if len(study.profile.seeds) < 2:
        return claims
    verdicts = stats.decide(study.table(), study.contrasts, design="sequential")
    return [v.contrast.name for v in verdicts if v.contrast.name in claims and v.outcome == "undecided"]


def next_seed(studies: Iterable[Study]) -> tuple[int, list[RunSpec]]:
    """The seed after the last one, and the runs of all studies at it; no runs where seeds are used up."""
    studies = list(studies)
    seed = max(max(study.profile.seeds) for study in studies) + 1
    return seed, [s.at_seed(seed) for study in studies for s in study.arms.values()] if seed <= LAST else []


def until_decided(
    studies: Mapping[str, Study], stages: Sequence[list[RunSpec]], seconds: float, started: float,
    train: Callable[..., object],
) -> dict[str, Study]:  # fmt: skip
    """Train the studies' own seeds, then whole further ones, numbered on, until all claims are decided or time is up.

    A study whose claims are decided gets no more seeds. A seed that is not whole when time is up keeps its checkpoints
    for the next time, and takes no part.

    Args:
        studies: by name.
        stages: their own runs, in the order of training.
        seconds: until time is up.
        started: ``time.monotonic()`` when it began.
        train: ``lab.run`` with all arguments but lists of specs and ``halt``.

    Returns:
        The studies at the seeds that are whole, judged by the sequential t-test, but for those with fewer than two.
    """
    grown = {name: sequential(study, study.profile.seeds) for name, study in studies.items()}
    missing, open_ones, over = list(stages), list(studies), threading.Event()
    timer = threading.Timer(max(0.0, started + seconds - time.monotonic()), over.set)
    timer.daemon = True
    timer.start()
    try:
        while missing:
            with contextlib.suppress(lab.Halted):
                if left := [part for part in missing if not finished(part)]:
                    train(*left, halt=over)
            there = {name: sequential(grown[name], whole(grown[name])) for name in open_ones}
            short = [name for name in open_ones if there[name] != grown[name]]
            grown |= there
            found = {name: undecided(grown[name]) for name in open_ones}
            _say(grown, found, started)
            open_ones = [name for name in open_ones if found[name]]
            if not open_ones or short or over.is_set():
                break
            seed, specs = next_seed(grown[name] for name in open_ones)
            missing = [specs] if specs else []
            if specs:
                grown |= {name: sequential(grown[name], (*grown[name].profile.seeds, seed)) for name in open_ones}
    finally:
        timer.cancel()
    _say_why(open_ones, bool(missing))
    return {name: study for name, study in grown.items() if len(study.profile.seeds) > 1}


def describe(studies: Mapping[str, Study], seconds: float, workers: int, first: lab.Plan) -> str:
    """What ``--until decided`` would do after the plan of the studies' own seeds, in a line.

    Args:
        studies: by name.
        seconds: until time is up.
        workers: processes, >= 1.
        first: the plan of their own seeds.
    """
    seed, specs = next_seed(studies.values())
    limit, until = lab.duration(seconds), "until every claim is decided"
    if makespan(first.cohorts, workers)[0] > seconds:
        return f"more than --at-most, {limit}: not all of these seeds would be whole when time is up."
    more = lab.plan(specs, workers=workers, from_ledger=True)
    each = f"about {lab.duration(makespan(more.cohorts, workers)[0])} each" if more.missing else "the next is there"
    return f"then whole seeds from {seed} on, one after another ({each}), {until} or {limit} are over: {LOOKS}."


def _say(grown: Mapping[str, Study], found: Mapping[str, Sequence[str]], started: float) -> None:
    """One line per study that was looked at."""
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    for name, claims in found.items():
        said = f"undecided: {'; '.join(claims)}" if claims else "every claim is decided"
        print(f"[{minutes:02d}:{seconds:02d}] {name}, {len(grown[name].profile.seeds)} seeds: {said}", flush=True)


def _say_why(open_ones: Sequence[str], more: bool) -> None:
    """Why no more seeds are added, and whether there are more."""
    if not open_ones:
        print("every claim is decided: no more seeds.", flush=True)
    elif more:
        print(f"time is up, and not decided: {', '.join(open_ones)}. The same command goes on from here.", flush=True)
    else:
        print(f"seed {LAST} was the last: further ones have chosen weights and the regime.", flush=True)
