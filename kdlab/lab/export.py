"""A finished run as files to take elsewhere: its weights, what they must be used with, the lines that load them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kdlab.errors import SpecError
from kdlab.lab.damage import Damaged
from kdlab.lab.networks import predicts_alone
from kdlab.lab.query import find_key
from kdlab.lab.store import Store
from kdlab.lab.unfinished import writing
from kdlab.paths import absolute, write_file
from kdlab.spec import RunSpec

WEIGHTS = "student.safetensors"


def export(key: str, out: Path) -> str:
    """Write a run's weights, spec and results to a folder, and say how to load them.

    All is what the run had, whatever the data of that name are now. The weights carry the model's name and options, the
    class names and the normalisation, so that ``kdlab run --teacher`` needs the file alone (as a teacher it sees images
    normalised as its student's data are, which the plan says where that is another rule); ``load.py`` beside them holds
    the same lines that are returned.

    Args:
        key: of a finished run, or its beginning.
        out: folder in which a folder named by the key is written.

    Returns:
        Where it is, and Python that loads it.

    Raises:
        SpecError: for an unknown key, or a run whose files no longer match their checksums.
    """
    from safetensors.torch import save

    store, key = Store(), find_key(key)
    if not store.has(key):
        raise SpecError(f"run {key} is a row of the ledger, which holds no weights; train it here to export them.")
    if bad := store.damaged(key):
        store.set_aside(Damaged(key, ", ".join(bad), "no longer match their checksums"))
        raise SpecError(f"run {key} was not exported, since {', '.join(bad)} no longer match their checksums.")
    spec, result = RunSpec.from_dict(store.read(key, "spec")["spec"]), store.read(key, "result")
    weights = store.weights(key)
    held = _held(store, key, spec, weights)
    target = absolute(out) / key
    metadata = {"arch": spec.model, "run": key, "data": spec.data, "options": json.dumps(dict(spec.model_options))}
    files = {f"{name}.json": (store.root / key / f"{name}.json").read_bytes() for name in ("spec", "result")}
    files[WEIGHTS] = save(weights, {**metadata, **{name: json.dumps(value) for name, value in held.items()}})
    if not predicts_alone(spec.method):
        files["method.safetensors"] = (store.root / key / "method.safetensors").read_bytes()
    here = f"str(Path(__file__).with_name({WEIGHTS!r}))"
    files["load.py"] = f"from pathlib import Path\n\n{_lines(key, spec, result, held, here)}\n".encode()
    with writing(target):
        for name, content in files.items():
            write_file(target / name, content)
    return f"exported to {target}\n\n{_lines(key, spec, result, held, repr(str(target / WEIGHTS)))}"


def _held(store: Store, key: str, spec: RunSpec, weights: dict) -> dict[str, Any]:
    """What the run recorded of its data; of an older run, which recorded nothing, what its weights tell."""
    if (store.root / key / "data.json").exists():
        return store.read(key, "data")
    from kdlab.models.matching import classes_and_channels, skeleton

    classes, channels = classes_and_channels(skeleton(spec.model, **spec.model_options), weights)
    return {name: value for name, value in (("num_classes", classes), ("channels", channels)) if value}


def _lines(key: str, spec: RunSpec, result: dict, held: dict[str, Any], path: str) -> str:
    """Python that loads the weights at ``path``, an expression, and gives logits as the run did."""
    options = {
        name: value for name, value in spec.model_options.items() if name != "weights"
    }  # the file's stand instead
    numbers = [held.get("num_classes", len(held.get("classes", ())) or None), held.get("channels")]
    arguments = ", ".join([repr(spec.model), path, *map(repr, numbers)] + [f"{k}={v!r}" for k, v in options.items()])
    lines = ["import torch", "from kdlab.models import load_teacher", "", f"# {_words(key, spec, result)}"]
    if ":" in spec.model:
        lines.append(f"# {spec.model.partition(':')[0]!r} must be importable, as it was for the run")
    if not predicts_alone(spec.method):
        lines.append(
            f"# the accuracy is that of {spec.method}, whose part (method.safetensors) is needed beside the student"
        )
    lines.append(f"model = load_teacher({arguments})  # in eval mode, without gradients")
    if "classes" not in held:
        return "\n".join([*lines, "# this older run recorded neither class names nor normalisation: see its data"])
    shape = f"(N, {held['channels']}, {held['height']}, {held['width']})"
    lines += [
        f"classes = {tuple(held['classes'])!r}",
        f"mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in ({held['mean']!r}, {held['std']!r}))",
        "", "",
        "def logits(images):",
        f'    """Class scores, float32 (N, {len(held["classes"])}), of images, uint8 {shape}."""',
        "    return model((images.float() - 255 * mean) * (1 / (255 * std)))",
    ]  # fmt: skip
    return "\n".join(lines)


def _words(key: str, spec: RunSpec, result: dict) -> str:
    accuracy = "diverged" if result["diverged"] else f"{result['test_accuracy']:.2f} % of test images right"
    return f"run {key}: {spec.model} by {spec.method} on {spec.data}, seed {spec.seed}; {accuracy}"
