"""The store of what lessons train, apart from that of studies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdlab import lab
from kdlab.lab.shipped import shipped
from kdlab.lab.store import NEEDED, Store
from kdlab.paths import home
from kdlab.training import predict

if TYPE_CHECKING:
    from kdlab.widgets import TrainedPair


def classroom(trained: TrainedPair) -> Store:
    """The lessons' own store, with the shared teacher in it, so that students train under it at once.

    That teacher may have come with the package, without its answers to the test images, which it is asked for here. In
    the store of studies it would stand beside runs that were trained here, as if it had been trained here too.

    Args:
        trained: teacher and student that the lesson opened.
    """
    key, store = lab.run_key(trained.specs["teacher"]), Store(home() / "lessons")
    if not store.has(key):
        source = Store() if Store().has(key) else shipped([key])
        assert source is not None, "an opened teacher is in one of the two"
        logits = source.logits(key)
        if "test" not in logits:
            logits["test"] = predict(trained.teacher, trained.splits.test)
        parts = {part: source.weights(key, part) for part in ("student", "method")}
        store.write(key, dict(zip(NEEDED, source.documents(key), strict=True)), parts | {"logits": logits})
    return store
