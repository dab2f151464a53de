"""Where the runs of a table come from: the store, or rows of the ledger; a seed never mixes environments.

**The rule**, for the runs of one seed on one data set that were asked for together:

1. The store has them all, from one environment: they come from the store.
2. Some environment has them all, in the ledger or in store and ledger together: they come from there.
3. The store has them all, from several environments: from the store, and every comparison says so (``kdlab.stats``).
4. Otherwise the store must have them all: what it lacks is trained. Rows of the ledger spare training where they, and
   what the store has of this seed, were computed with the very environment that trains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from kdlab.lab import answers, ledger
from kdlab.lab.keys import run_key
from kdlab.lab.ledger import Row
from kdlab.lab.store import MissingRuns, Store
from kdlab.spec import RunSpec

STORE, LEDGER = "store", "ledger"


def taken(specs: Sequence[RunSpec], store: Store, here: Callable[[], str] | None = None) -> dict[str, Row]:
    """The rows of the ledger that stand for runs of a table: those that the store lacks, or has from elsewhere.

    Args:
        specs: asked for together.
        store: where finished runs live; those of these specs can be read (``Store.sound``).
        here: the digest of the environment that would train what is missing; None for a table, which must be whole.

    Returns:
        By key; runs of the store are not in it.
    """
    if not (known := ledger.by_key()):
        return {}
    seeds: dict[tuple, dict[str, None]] = {}
    for spec in specs:
        seeds.setdefault((spec.data, spec.seed), {})[run_key(spec)] = None
    return {key: row for keys in seeds.values() for key, row in _of_seed(list(keys), known, store, here).items()}


def _of_seed(
    keys: list[str], known: Mapping[str, Mapping[str, Row]], store: Store, here: Callable[[], str] | None
) -> dict[str, Row]:
    rows = {key: known[key] for key in keys if key in known}
    if not rows:
        return {}
    made = {key: store.read(key, "environment")["digest"] for key in keys if store.has(key)}
    complete = len(made) == len(keys)
    if complete and len(set(made.values())) == 1:
        return {}
    places = {environment for there in rows.values() for environment in there}
    whole = [e for e in places if all(e in rows.get(key, ()) or made.get(key) == e for key in keys)]
    if whole:
        best = usual(whole, counts(known))
        return {key: there[best] for key, there in rows.items() if made.get(key) != best}
    if complete or here is None or not (usable := places - {e for e in places if {*made.values()} - {e}}):
        return {}
    # Only torch can tell what it would compute with, so it is asked only where an answer could spare training.
    own = here()
    return {key: there[own] for key, there in rows.items() if own in usable & there.keys() and key not in made}


def elsewhere(store: Store) -> dict[str, Row]:
    """The rows of the ledger whose runs a store lacks, one a key: of the environment that most rows are from.

    Args:
        store: where finished runs live.
    """
    known, here = ledger.by_key(), set(store.keys())
    many = counts(known)
    return {key: there[usual(there, many)] for key, there in sorted(known.items()) if key not in here}


def counts(known: Mapping[str, Mapping[str, Row]]) -> Counter[str]:
    """How many rows of a ledger each environment has."""
    return Counter(environment for there in known.values() for environment in there)


def usual(environments: Iterable[str], many: Mapping[str, int]) -> str:
    """Of some environments that from which most rows of a ledger are (``counts``)."""
    return max(environments, key=lambda e: (many[e], e))


def found(key: str, store: Store | None = None, environment: str | None = None) -> Row | None:
    """The row of the ledger that a key means; None where it means a run of the store.

    Args:
        key: of a finished run.
        store: None takes the default store.
        environment: as in the table's column; None takes the store's run where there is one.

    Raises:
        MissingRuns: when there is no such run.
    """
    store, known = store or Store(), ledger.by_key()
    if store.has(key) and environment in (None, store.read(key, "environment")["digest"]):
        return None
    there = known.get(key, {})
    if environment is None and there:
        return there[usual(there, counts(known))]
    if environment not in there:
        of = f" of environment {environment}" if environment else ""
        raise MissingRuns(f"run {key}{of} is neither in the store {store.root} nor in the ledger.")
    return there[environment]


def test_right(key: str, environment: str | None = None, store: Store | None = None) -> np.ndarray:
    """Whether each test image is answered right by a finished run, bool (N,); by a diverged one none is.

    The images are in the data's own order, so the answers of two runs on the same data and sizes can be compared
    image by image.

    Args:
        key: as in a table of runs.
        environment: as in the table's column; None takes the store's run where there is one, else the ledger's.
        store: None takes the default store.

    Raises:
        MissingRuns: when the run is neither in the store nor in the ledger.
        SpecError: when a run of the store has files, or data, that cannot be read any more.
    """
    store = store or Store()
    row = found(key, store, environment)
    return answers.right(store, key) if row is None else row.right()


test_right.__test__ = False  # type: ignore[attr-defined]  # no test, whatever its name says to pytest
