"""The names of weights, and what wrappers, compilers and trainers put before them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from torch import Tensor

from kdlab.errors import choose

Tensors = dict[str, Tensor]

INVISIBLE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")  # never part of a layer's own name


def bare(state: Mapping[str, Tensor], wanted: Collection[str] = ()) -> Tensors:
    """The weights without what compilers and wrappers of single layers put into names, and averaging's counter."""
    plain = {}
    for name, value in state.items():
        parts = name.split(".")
        kept = parts if name in wanted else [part for part in parts if part not in INVISIBLE]
        if kept[-1] != "n_averaged" or name in wanted:
            plain[".".join(kept)] = value
    return plain if plain else dict(state)


def stripped(state: Tensors) -> list[Tensors]:
    """The weights as they are, without the word that all names begin with, without the next one, and so on."""
    found = [state]
    while len({name.partition(".")[0] for name in found[-1]}) == 1 and all("." in name for name in found[-1]):
        found.append({name.partition(".")[2]: value for name, value in found[-1].items()})
    return found


def groups(state: Mapping[str, Tensor]) -> dict[str, Tensors]:
    """The weights by the first word of their names, once what all names begin with is gone."""
    found: dict[str, Tensors] = {}
    for name, value in stripped(bare(state))[-1].items():
        first, _, rest = name.partition(".")
        if rest:
            found.setdefault(first, {})[rest] = value
    return found


def without(state: Tensors, ignore: Iterable[str]) -> Tensors:
    """The weights whose names, with or without what all begin with, begin with none of the given words.

    Raises:
        SpecError: for a word that no name begins with.
    """
    beginnings = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    if not beginnings:
        return state
    plain = stripped(bare(state))[-1]
    names = dict(zip(bare(state), plain, strict=True))
    for beginning in beginnings:
        if not any(name.startswith(beginning) for pair in names.items() for name in pair):
            choose("ignore", beginning, sorted({name.split(".")[0] for name in plain}))
    return {
        name: value
        for (name, short), value in zip(names.items(), plain.values(), strict=True)
        if not name.startswith(beginnings) and not short.startswith(beginnings)
    }


def unwrapped(state: Mapping[str, Tensor], wanted: Iterable[str]) -> Tensors:
    """The weights without what wrappers put before their names, as far as more names of the model come out.

    Any words that all names begin with may go, and those of one part of the names, as of ``backbone.`` with heads
    beside it. A model whose own names begin like that keeps them.
    """
    wanted = set(wanted)
    tries = stripped(bare(state, wanted))
    whole, there = tries[-1], groups(state)
    for word, inside in there.items():
        rest = {name: value for name, value in whole.items() if not name.startswith(f"{word}.")}
        tries += [rest | part for part in stripped(inside) if rest and not rest.keys() & part.keys()]
    return max(tries, key=lambda names: len(wanted & names.keys()))
