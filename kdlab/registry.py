"""What exists, read from the source text: names, options and facts without importing torch.

A part (an augmentation, a model, a method) is registered by a decorator whose arguments are literals::

    @register("ccd", revision=1, knowledge="logits", needs=("teacher", "pairs"))
    class CCD(Method): ...

``catalogue`` parses the files of the folder instead of importing them, so planning a sweep, drawing what is cached
and ``kdlab --help`` stay fast, and a new part is one class in one file.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from kdlab import foreign
from kdlab.errors import SpecError, choose
from kdlab.foreign import revision as revisions
from kdlab.memo import memoised

REQUIRED = inspect.Parameter.empty  # stands for the default of an option that has none


def register(*names: str, revision: int = 1, **facts: Any):
    """Mark a class or function as a part of its folder's catalogue.

    All arguments are literals, since they are read without running the file. With several names the target's first
    argument is the name it was asked for by.

    Args:
        *names: the field's names for the part.
        revision: raised whenever the part's numbers change; it enters the key of every run that uses the part.
        **facts: what else planning must know: fields of ``MethodInfo``, ``AugmentationInfo`` or ``ModelInfo``.
    """

    def mark(target):
        target.names, target.revision, target.facts = names, revision, facts
        return target

    return mark


@dataclass(frozen=True)
class Entry:
    """One part, as far as its source text tells; what planning must know of its kind stands in the subclasses.

    Args:
        name: as registered, or ``module:Class``.
        kind: ``"augment"``, ``"models"`` or ``"losses"``.
        module, target: where its code is.
        revision: a number, or of foreign code the hash of its source.
        options: with their defaults; REQUIRED where there is none.
        doc: first paragraph of its text.
        many: whether several names share the code, which is then told the name.
        text: the docstring.
    """

    name: str
    kind: str
    module: str
    target: str
    revision: int | str
    options: dict[str, Any] = field(default_factory=dict)
    doc: str = ""
    many: bool = False
    text: str = ""

    if TYPE_CHECKING:  # ``catalogue`` is asked for a kind by its name: the facts that only this kind has

        def __getattr__(self, fact: str) -> Any: ...

    def declared(self) -> dict[str, Any]:
        """The fields of its kind that are not as usual, by name."""
        usual = {f.name: {} if f.default is MISSING else f.default for f in fields(self)[len(fields(Entry)) :]}
        return {name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value}


@dataclass(frozen=True)
class MethodInfo(Entry):
    """What planning must know of a distillation method.

    Args:
        knowledge: what is distilled: logits, features, relations, contrastive, none.
        coupling: whether the method depends on how views are made: none, agnostic, required.
        needs: what a spec or a network must give: teacher, pairs, turns, labels, dataset, memory, prepared, inference,
            and the parts of the networks that it reads: features, embedding, final.
        of_teacher: those of ``needs`` that it reads of the teacher only.
        tune: the option that weighs the method against cross-entropy.
        wraps: the option that names the method it is built on.
        least: by term, what a step must hold at least for the term to have a gradient (classes, rows, originals).
        stage: ``"teacher"`` where it prepares a teacher instead of training a student.
        prepared: methods one of which must have prepared the teacher.
        turns: ``"shared"`` or ``"own"`` for methods that see all four quarter turns of one crop, or of a crop each.
    """

    knowledge: str = ""
    coupling: str = ""
    needs: tuple[str, ...] = ()
    of_teacher: tuple[str, ...] = ()
    tune: str = ""
    wraps: str = ""
    least: dict[str, dict[str, int]] = field(default_factory=dict)
    stage: str = ""
    prepared: tuple[str, ...] = ()
    turns: str = ""


@dataclass(frozen=True)
class AugmentationInfo(Entry):
    """What planning must know of an augmentation.

    Args:
        where: ``"view"`` where it is applied after the weak crop and flip, not before; ``"alone"`` where neither is.
        mixes: whether two images become one.
        picks: the usual picker, of policies whose rows a network picks; ``""`` for the others.
    """

    where: str = ""
    mixes: bool = False
    picks: str = ""


@dataclass(frozen=True)
class ModelInfo(Entry):
    """What planning must know of a network.

    Args:
        narrow: whether it is so narrow that several students gain by being stepped as one fused network.
    """

    narrow: bool = False


INFOS = {"augment": AugmentationInfo, "models": ModelInfo, "losses": MethodInfo}
KINDS = tuple(INFOS)


def _info(kind: str, facts: Mapping[str, Any], **general: Any) -> Entry:
    """The entry of a part; a fact that its kind does not have is refused with the nearest name."""
    known = [f.name for f in fields(INFOS[kind])[len(fields(Entry)) :]]
    for fact in facts:
        choose(f"fact of {kind_word(kind)} {general['name']!r}", fact, known)
    return INFOS[kind](kind=kind, **general, **facts)


def _signature(function: ast.FunctionDef, skip: int) -> dict[str, Any]:
    """Options with literal defaults; arguments without a default are the builder's own (num_classes and such)."""
    positional = function.args.args[skip:]
    defaults = function.args.defaults
    pairs = list(zip(positional[len(positional) - len(defaults) :], defaults, strict=False))
    pairs += [(a, d) for a, d in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True) if d is not None]
    return {a.arg: ast.literal_eval(d) for a, d in pairs}


def _options(node: ast.ClassDef | ast.FunctionDef, classes: dict[str, ast.ClassDef], skip: int) -> dict[str, Any]:
    """Options of a function or class: its constructor's, else its fields and after them those of its base's.

    A field is annotated and has a default; the base is one of the same folder.
    """
    if isinstance(node, ast.FunctionDef):
        return _signature(node, skip)
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return _signature(part, skip + 1)
    fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and n.value and "ClassVar" not in ast.unparse(n)]
    own = {n.target.id: ast.literal_eval(n.value) for n in fields if not n.target.id.startswith("_")}
    bases = [classes[b.id] for b in node.bases if isinstance(b, ast.Name) and b.id in classes]
    inherited = _options(bases[0], classes, skip) if bases else {}
    return own | {name: default for name, default in inherited.items() if name not in own}


@functools.cache
def catalogue(kind: str) -> dict[str, Entry]:
    """Everything registered in ``kdlab/<kind>/``, read with ``ast`` and never imported.

    Args:
        kind: ``"augment"``, ``"models"`` or ``"losses"``.

    Returns:
        Entries by name, in the order of the files and of their lines.
    """
    choose("kind", kind, KINDS)
    folder = Path(__file__).parent / kind
    trees = {p.stem: ast.parse(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("*.py"))}
    classes = {n.name: n for tree in trees.values() for n in tree.body if isinstance(n, ast.ClassDef)}
    found: dict[str, Entry] = {}
    for stem, tree in trees.items():
        for node in tree.body:
            for call in getattr(node, "decorator_list", []):
                if isinstance(call, ast.Call) and getattr(call.func, "id", None) == "register":
                    for entry in _entries(kind, stem, node, call, classes):
                        found[entry.name] = entry
    return found


def _entries(kind, stem, node, call, classes) -> list[Entry]:
    names = [ast.literal_eval(a) for a in call.args]
    facts = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
    revision = facts.pop("revision", 1)
    options = _options(node, classes, skip=1 if len(names) > 1 else 0)
    module = f"kdlab.{kind}" if stem == "__init__" else f"kdlab.{kind}.{stem}"
    text = ast.get_docstring(node) or ""
    doc, many = text.split("\n\n")[0], len(names) > 1
    return [
        _info(kind, facts, name=name, module=module, target=node.name, revision=revision, options=options, doc=doc,
              many=many, text=text)
        for name in names
    ]  # fmt: skip


@overload
def find(kind: Literal["losses"], name: str) -> MethodInfo: ...
@overload
def find(kind: Literal["augment"], name: str) -> AugmentationInfo: ...
@overload
def find(kind: str, name: str) -> Entry: ...
def find(kind: str, name: str) -> Entry:
    """The entry of a registered name, or of foreign code written ``module:Class``.

    Foreign code is imported (its facts and options cannot be read otherwise) and its revision is a hash of its source.

    Raises:
        SpecError: for an unknown name, with the nearest one.
    """
    entries = catalogue(kind)
    if name in entries:
        return entries[name]
    if ":" in name:
        return _foreign(kind, name)
    if said := foreign.suggestion(name):
        raise SpecError(f"{kind_word(kind)} {name!r} is not registered.{said}")
    return choose(kind_word(kind), name, entries)


@memoised
def _foreign(kind: str, name: str) -> Entry:
    word, (module, _, target) = kind_word(kind), name.partition(":")
    part = foreign.load(word, name)
    try:
        revision = revisions.revision(part)
        given = inspect.signature(part).parameters.values()
    except (OSError, TypeError, ValueError) as error:
        raise SpecError(f"{word} {name!r} must be a class or function of a Python file: {error}.") from error
    named = [p for p in given if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    # Models and methods get their arguments without a default from the builder, augmentations from nobody.
    options = {p.name: p.default for p in named if kind == "augment" or p.default is not REQUIRED}
    text = inspect.getdoc(part) or ""
    return _info(kind, getattr(part, "facts", {}), name=name, module=module, target=target, revision=revision,
                 options=options, doc=text.split("\n\n")[0], text=text)  # fmt: skip


def preparations() -> set[str]:
    """The methods that prepare a teacher: by their ``stage``, or because another reads what they train."""
    entries = catalogue("losses")
    named = {name for entry in entries.values() for name in entry.prepared}
    return named | {name for name, entry in entries.items() if entry.stage == "teacher"}


def kind_word(kind: str) -> str:
    """The word a user knows a kind by: augmentation, model, method."""
    return {"augment": "augmentation", "models": "model", "losses": "method"}[kind]


@overload
def check_options(kind: Literal["losses"], name: str, options: dict[str, Any]) -> MethodInfo: ...
@overload
def check_options(kind: Literal["augment"], name: str, options: dict[str, Any]) -> AugmentationInfo: ...
@overload
def check_options(kind: str, name: str, options: dict[str, Any]) -> Entry: ...
def check_options(kind: str, name: str, options: dict[str, Any]) -> Entry:
    """Refuse options that the named part does not have, and the lack of one that it must have.

    Raises:
        SpecError: naming the unknown option and the nearest one, or the missing one.
    """
    entry = find(kind, name)
    for option in options:
        choose(f"option of {kind_word(kind)} {name!r}", option, entry.options)
    missing = [o for o, default in entry.options.items() if default is REQUIRED and o not in options]
    if missing:
        raise SpecError(f"{kind_word(kind)} {name!r} needs the option {missing[0]!r}, which has no default.")
    return entry


def needs(method: MethodInfo, options: Mapping[str, Any]) -> set[str]:
    """What a method needs, with what the method it wraps needs."""
    return {need for part in parts_of(method, options) for need in part.needs}


def parts_of(method: MethodInfo, options: Mapping[str, Any]) -> list[MethodInfo]:
    """A method, and the one it wraps."""
    if not method.wraps:
        return [method]
    base: str = (method.options | dict(options))[method.wraps]
    return [method, check_options("losses", base, {})]


def create(kind: str, name: str, /, *args: Any, **options: Any) -> Any:
    """Import a registered part and build it.

    Args:
        kind: ``"augment"``, ``"models"`` or ``"losses"``.
        name: registered name or ``module:Class``.
        *args: what the builder needs besides options (number of classes, channels).
        **options: the part's own options; unknown ones are refused.

    Returns:
        The part. A foreign augmentation without ``draw`` and ``apply`` comes in a
        ``kdlab.foreign.augmentation.PerImage``.

    Raises:
        SpecError: for unknown names and options.
    """
    entry = check_options(kind, name, options)
    target = getattr(importlib.import_module(entry.module), entry.target)
    if kind == "augment" and ":" in name:
        from kdlab.foreign.augmentation import build  # imports torch

        return build(name, target, options)
    return target(*((name, *args) if entry.many else args), **options)
