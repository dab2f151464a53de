"""figures/cpus.py: the same verdicts from two folders of figures, side by side."""

import importlib.util
import json

import pandas as pd
import pytest

from kdlab.paths import CHECKOUT

spec = importlib.util.spec_from_file_location("cpus", CHECKOUT / "figures" / "cpus.py")
cpus = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cpus)


def write(folder, effect: float, outcome: str, environment: str, seeds=(0, 1)):
    """A folder of figures with one verdict."""
    folder.mkdir()
    verdict = {"name": "JDA − weak2", "role": "claim", "effect": effect, "low": effect - 0.5, "high": effect + 0.5,
               "outcome": outcome}  # fmt: skip
    document = {"perspective": "joint_augmentation", "seeds": list(seeds), "verdicts": [verdict]}
    (folder / "joint_augmentation.verdict.json").write_text(json.dumps(document))
    table = pd.DataFrame({"key": ["a", "b"], "environment": [environment] * 2})
    table.to_csv(folder / "joint_augmentation-contrasts.csv", index=False)
    return folder


def test_effects_and_outcomes_stand_side_by_side(tmp_path):
    first = write(tmp_path / "a", 0.2, "undecided", "11111111")
    second = write(tmp_path / "b", 0.6, "supported", "22222222")
    (row,) = cpus.compared(first, second).to_dict("records")
    assert (row["effect"], row["effect_2"], row["moved"]) == (0.2, 0.6, pytest.approx(0.4))
    assert (row["outcome"], row["outcome_2"], row["within"], row["seeds"]) == ("undecided", "supported", True, 2)
    assert (row["environment"], row["environment_2"]) == ("11111111", "22222222")
    third = write(tmp_path / "c", 0.9, "supported", "22222222")
    assert not cpus.compared(first, third)["within"].any()


def test_other_seeds_are_not_compared(tmp_path):
    first = write(tmp_path / "a", 0.2, "undecided", "1")
    with pytest.raises(SystemExit, match="joint_augmentation has other seeds"):
        cpus.compared(first, write(tmp_path / "b", 0.2, "undecided", "2", seeds=(0, 1, 2)))


def test_instructions_are_limited_in_a_store_of_its_own_without_the_ledger(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(cpus.subprocess, "run", lambda command, check, env: asked.append((command, env)))
    assert cpus.drawn(tmp_path, cpus.LIMITED, 2) == tmp_path / "quick" / "figures"
    ((command, env),) = asked
    assert command[-5:] == ["figures", "--profile", "quick", "--workers", "2"]
    assert env["KDLAB_OUT"] == str(tmp_path) and env["KDLAB_LEDGER"] == str(tmp_path / "no-ledger")
    assert {name: env[name] for name in cpus.LIMITED} == cpus.LIMITED


def test_a_limit_is_another_environment():
    from kdlab.lab.environment import LIMITS

    assert set(cpus.LIMITED) - {"ATEN_CPU_CAPABILITY"} <= set(LIMITS)
