"""The digests of all registered methods and augmentations, and the command that adds those of new ones."""

import json

import golden
import pytest


@pytest.fixture
def path(tmp_path):
    """A copy of the file of digests."""
    copy = tmp_path / "golden.json"
    copy.write_text(golden.PATH.read_text())
    return copy


def test_every_part_computes_what_it_did():
    saved, now = json.loads(golden.PATH.read_text()), golden.digests(golden.everything())
    assert not golden.changed(saved, now), "numbers changed: raise the revision, then make golden"
    assert saved.keys() == now.keys(), "the registry changed: make golden"


def test_new_parts_are_added_and_the_others_keep_their_bytes(path):
    saved, before = json.loads(path.read_text()), path.read_text()
    last = list(saved)[-1]
    noisy = {part: [value * (1 + 1e-7) for value in numbers] for part, numbers in saved.items()}
    assert golden.write(noisy, path) == [] and path.read_text() == before
    assert golden.write(noisy | {"augment/new@1": [1.5, 2.0]}, path) == ["augment/new@1"]
    after = path.read_text()
    assert json.loads(after) == saved | {"augment/new@1": [1.5, 2.0]}
    assert after.startswith(before.removesuffix("\n ]\n}\n")) and f'"{last}"' in after


def test_changed_numbers_need_a_raised_revision(path):
    saved, before = json.loads(path.read_text()), path.read_text()
    numbers = saved.pop("losses/kd@1")
    other = [value * 1.001 for value in numbers]
    for part in ("losses/kd@1", "losses/kd@0"):
        with pytest.raises(SystemExit, match=f"raise it in @register: {part}$"):
            golden.write(saved | {part: other}, path)
        assert path.read_text() == before, "a refusal writes nothing"
    assert golden.write(saved | {"losses/kd@2": other}, path) == ["losses/kd@2"]
    assert "losses/kd@1" not in json.loads(path.read_text()), "the old revision is gone"
