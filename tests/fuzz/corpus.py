"""What odd input has found, kept: values of each target that once ended in a traceback, a hang or a silence.

They are tried before anything is drawn. Add what ``make fuzz`` finds, with what came of it behind it.
"""

import gzip
import lzma
from typing import Any

import fuzz_targets


def _without(plain: dict[str, Any], name: str, **others: Any) -> dict[str, Any]:
    return {key: value for key, value in plain.items() if key != name} | others


_FIGURE, _VERDICT = fuzz_targets.document("few_shot-gain"), fuzz_targets.document("few_shot.verdict")
LONG = "a" * 3000

CORPUS: dict[str, list[Any]] = {
    "spec": [{"sizes": "fashion"}, {"sizes": 3}, {"sizes": (1, 2)}, {"teacher": "kd"}, {"budget": None}],  # TypeError
    "spec document": [
        [],  # AttributeError
        fuzz_targets.SPEC | {"sizes": 3},  # TypeError
        fuzz_targets.SPEC | {"budget": None},  # TypeError
        fuzz_targets.SPEC | {"teacher": [{}]},  # AttributeError
        _without(fuzz_targets.SPEC, "budget", budget={"amount": 2}),  # TypeError
        fuzz_targets.SPEC | {"optimiser": fuzz_targets.SPEC["optimiser"] | {"nesterov": [[]]}},  # TypeError
        fuzz_targets.SPEC | {"views": 10**8},  # 21 GB: a list of as many
        fuzz_targets.SPEC | {"views": 10**30},  # OverflowError
        fuzz_targets.SPEC | {"model_options": "nested 100000"},  # RecursionError
    ],
    "notebook parameter": [  # AttributeError
        ("perspectives/few_shot", [word]) for word in ("data=3", "data=None", "student=0.5", "seeds=1e999", "out_dir=1")
    ],
    "command line": [
        ["figures", "--plan", "--workers", "-1"],  # taken in silence
        ["figures", "--plan", "--workers", str(10**30)],  # OverflowError
        ["export", LONG, "--out", "x"],  # OSError: file name too long
        ["advise", "--images", "1500", "--epochs", "80", "--figures", LONG],  # OSError
        ["run", "--plan", "--teacher", LONG],  # OSError
        ["runs", "--limit", "-370122912"],  # ValueError: no row, and so no column to leave out
        ["advise", "folder:photos", "--plan", "--seeds", str(10**30)],  # OverflowError
        ["run", "--plan", "--seeds", str(10**9)],  # a list of as many
        ["runs", "merge", "pipe.csv.xz"],  # waited for whoever writes into it
    ],
    "archive": [
        ("train-images-idx3-ubyte", bytes([0, 0, 8, 255]) + bytes(4 * 255)),  # ValueError: more than 64 dimensions
        ("train-images-idx3-ubyte.gz", gzip.compress(bytes(30 << 20), 9)),  # unpacked, whatever it holds
        ("train-labels-idx1-ubyte", bytes([0, 0, 8, 1]) + b"\xff" * 4),
        ("batches.meta", b"\x80\x02Nr\x00\x00\x00\x04."),  # 1 GB: a memo as long as it says
    ],
    "weights": [
        ("x.safetensors", fuzz_targets.safetensors_of(b'{"a":' + b"[" * 100_000)),  # RecursionError
        ("x.safetensors", fuzz_targets.safetensors_of(b'{"w":{"data_offsets":[]}}')),  # IndexError
        ("x.safetensors", fuzz_targets.safetensors_of(b'{"w":{"data_offsets":[0,[]]}}')),  # TypeError
    ],
    "ledger": [lzma.compress(b"key\n" + b"\n" * 10**6, preset=0)],  # taken; 38 s of 190 million lines (30 kB)
    "figure record": [
        [],  # AttributeError
        _without(_FIGURE, "meta"),  # KeyError
        _FIGURE | {"columns": [1]},  # TypeError
        _FIGURE | {"data": {"seed": 3}},  # ValueError
        _FIGURE | {"meta": _FIGURE["meta"] | {"overrides": None}},  # TypeError
        "nested 100000", _FIGURE | {"caption": "nested 900"},  # RecursionError
    ],
    "verdict document": [
        None,  # TypeError
        _without(_VERDICT, "verdicts"),  # KeyError
        _VERDICT | {"verdicts": [{}]},  # KeyError
        _VERDICT | {"figures": [3]},  # TypeError
        _VERDICT | {"health": {"word": 1}},  # TypeError
        _VERDICT | {"health": "nested 100000"},  # RecursionError
    ],
    "words of weights": [  # JSONDecodeError
        fuzz_targets.SAID | said
        for said in ({"options": "{"}, {"options": "[1]"}, {"mean": "a", "std": "[]"}, {"mean": "[[]]", "std": "{}"},
                     {"arch": LONG}, {"arch": "[" * 300})  # OSError: file name too long
    ],
    "copied notebooks": [({"start.ipynb": 3}, fuzz_targets.SOURCE), ("nested 100000", "nested 100000")],  # TypeError
    "explorer": [  # each of another kind than the control holds
        *((name, settings, [], False) for name, settings in [
            ("TemperatureExplorer", {"temperature": "warm"}), ("AugmentationExplorer", {"augmentation": 3}),
            ("BudgetExplorer", {"data": [1]}), ("LiveTrainer", {"seed": None}), ("ConfidenceExplorer", {"image": {}}),
        ]),
        ("AugmentationExplorer", {}, [("", {"count": None})], False),  # TypeError
        ("AugmentationExplorer", {}, [("", {"variant": "cutmix"})], True),  # KeyError
        ("AugmentationExplorer", {}, [("", {"policy": "kd"})], True),  # KeyError
        ("AugmentationExplorer", {"policy": "weak", "variant": "svhn"}, [], False),  # was not heeded
        ("LiveTrainer", {}, [("", {"amount": None, "teacher": None})], False),  # TypeError
        ("LiveTrainer", {}, [("", {"student": "kd"}), ("pause", 0)], False),  # no message, but a traceback in the log
        ("LiveTrainer", {}, [("", {"profile": "x"}), ("", {"profile": "smoke"})], False),  # was not heeded
        ("LiveTrainer", {}, [("", {"ratio": (1, 2)})], False),  # TypeError, in how ipywidgets refuses it
    ],
}  # fmt: skip
