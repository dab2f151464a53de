"""Distil a student while you watch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdlab import lab, perspectives
from kdlab.data import visitors
from kdlab.errors import SpecError
from kdlab.foreign import split_options
from kdlab.lab.store import Store
from kdlab.lab.validation import refusal
from kdlab.perspectives import recipes
from kdlab.registry import catalogue, find, needs, preparations
from kdlab.spec import Budget, RunSpec
from kdlab.widgets.background_run import BackgroundRun
from kdlab.widgets.drawing import Drawing, table
from kdlab.widgets.live_captions import caption, run_name
from kdlab.widgets.live_curves import curves
from kdlab.widgets.training import TrainingExplorer

USUAL = "usual"  # views and ratio as they go with the augmentation
KEPT = 4  # earlier runs of this widget that stay in the picture
STATES = {
    "new": "",
    "running": "Training in another process; everything here stays free.",
    "paused": "Paused. Continue goes on bit for bit, also after this was closed.",
    "done": "Done. The run is in the store like any other: change a setting to train another one.",
}
FINISHED = "Nothing to start: this run is in the store already. Change a setting to train another one."


OWN = ("teacher", "student", "amount")  # settings whose usual value is the profile's


def _own(profile: perspectives.Profile) -> dict[str, Any]:
    return dict(zip(OWN, (profile.teacher, profile.student, profile.budget.amount), strict=True))


class LiveTrainer(TrainingExplorer):
    """Choose teacher, student, method, augmentation and budget; start, pause, continue, stop.

    It trains in a process of its own. What is finished stands in the run store, what is not keeps a checkpoint: closing
    the notebook loses nothing, and the same settings go on where they were.

    Args:
        **settings: ``profile`` (its name; None is ``$KDLAB_PROFILE``, else quick), ``teacher``,
            ``student`` (models; None is the profile's), ``method``, ``augmentation``, ``views`` and ``ratio``
            (``"usual"``: one weak row of each original and one augmented), ``amount`` and ``unit`` of the
            budget (None is the profile's), ``seed``.

    Raises:
        SpecError: for an unknown setting or value.
    """

    TITLE = "Live trainer"
    QUESTION = "Distil a student and watch. Change one thing, run again, compare."
    DEFAULTS = {
        "profile": None, "teacher": None, "student": None, "method": "kd", "augmentation": "jda", "views": USUAL,
        "ratio": USUAL, "amount": None, "unit": "epochs", "seed": 0,
    }  # fmt: skip
    KINDS = dict.fromkeys(("profile", "teacher", "student"), str) | {"amount": float, "views": object, "ratio": object}

    def __init__(self, **settings: Any):
        self.profile: perspectives.Profile | None = None
        super().__init__(**settings)
        for name in ("teacher", "student"):
            find("models", split_options(self.settings[name])[0])
        self.latest: dict[str, tuple[int, float]] = {}
        self.earlier: dict[str, RunSpec] = {}

    def _set(self, settings: Mapping[str, Any]) -> None:
        """Take these settings; what is None is the profile's, and so is what was an earlier profile's own."""
        before = dict(self.settings)
        super()._set(settings)
        try:
            profile = perspectives.profile(self.settings["profile"])
        except SpecError:
            self.settings = before
            raise
        earlier = _own(self.profile) if self.profile else {}
        for name, own in _own(profile).items():
            if self.settings[name] in (None, "") or (name not in settings and self.settings[name] == earlier.get(name)):
                self.settings[name] = own
        self.profile = profile

    # ---- what to train -----------------------------------------------------------------------------------------------

    def spec(self) -> RunSpec:
        """The run of the present settings.

        Raises:
            SpecError: when it cannot run.
        """
        s = self.settings
        size = self.profile.replace(teacher=s["teacher"], student=s["student"])
        views, ratio = (None if s[name] == USUAL else s[name] for name in ("views", "ratio"))
        if views is None and "pairs" in needs(find("losses", s["method"]), {}):
            views = 2
        spec = recipes.with_views(recipes.method(size, s["method"]), size, s["augmentation"], views, ratio)
        budget = Budget(float(s["amount"]), s["unit"], size.budget.originals_per_step)
        spec = spec.replace(budget=budget).at_seed(s["seed"])
        if why := refusal(spec):
            raise SpecError(why)
        return spec

    # ---- the picture -------------------------------------------------------------------------------------------------

    def static(self) -> Drawing:
        """Train to the end, here and now but in another process, then draw."""
        lab.run([self.spec()], workers=1, progress=False, require_teacher=self.profile.requires_teacher)
        return self.draw()

    def draw(self) -> Drawing:
        spec, store = self.spec(), Store()
        key = lab.run_key(spec)
        shown = {k: s for k, s in self.earlier.items() if k != key} | {key: spec}
        panels, rows = curves(shown, key, self.latest, store)
        alt = f"Training loss and val accuracy over steps: {run_name(spec)}"
        numbers = table(("run", "step", "training loss", "val accuracy (%)"), rows) if rows else ""
        return Drawing([panels], alt, caption(key, spec, store), numbers)

    # ---- controls ----------------------------------------------------------------------------------------------------

    def controls(self) -> dict[str, Any]:
        apart = preparations()
        ratios = [(USUAL, USUAL), *((f"{r:g}", r) for r in (0.25, 0.5, 0.75, 1.0))]
        units = [("epochs", "epochs"), ("steps", "steps"), ("student images", "student_images")]
        network = {"kind": "Combobox", "ensure_option": False, "continuous_update": False}
        network = {"kind": "Dropdown"} if visitors.here() else network  # whose code of their own is not here
        network["options"] = tuple(catalogue("models"))
        methods = [n for n in catalogue("losses") if n not in apart]
        return {
            "teacher": self.field(name="teacher", **network),
            "student": self.field(name="student", **network),
            "method": self.field("Dropdown", "method", width="190px", options=methods),
            "augmentation": self.field("Dropdown", "augmentation", width="240px", options=sorted(catalogue("augment"))),
            "views": self.field("Dropdown", "views", width="130px", options=[USUAL, 1, 2, 3, 4]),
            "ratio": self.field("SelectionSlider", "ratio", options=ratios),
            "amount": self.field("BoundedFloatText", "amount", "budget", "150px", min=0.1, max=1e9),
            "unit": self.field("Dropdown", "unit", width="150px", options=units, tooltip="unit of the budget"),
            "seed": self.field("BoundedIntText", "seed", width="120px", min=0, max=9999),
            "start": self.button("Start", self.start, "Train this run", "play", button_style="primary"),
            "pause": self.button("Pause", self.pause, "Stop at the end of the step, keep the place", "pause"),
            "resume": self.button("Continue", self.resume, "Go on where it was paused", "step-forward"),
            "stop": self.button("Stop", self.stop, "Give the unfinished run up", "stop"),
        }

    def start(self) -> None:
        """Train the run of the present settings."""
        with self.lock:
            spec = self.spec()
            key = lab.run_key(spec)
            self.earlier.pop(key, None)
            self.earlier = dict([*self.earlier.items(), (key, spec)][-KEPT - 1 :])
            self.latest.pop(key, None)
            self.background = BackgroundRun([spec], self._tick, self.profile.requires_teacher)
        self.background.start()

    def pause(self) -> None:
        """Stop at the end of the step and keep the place."""
        if self.background:
            self.where.value = "stopping at the end of the step ..."
        super().pause()

    def resume(self) -> None:
        """Go on where the pause left off."""
        if self.background:
            self.background.start()

    def stop(self) -> None:
        """Give the unfinished run up: its checkpoint is thrown away."""
        if self.background:
            self.background.pause()
            self.background.wait(60)
            with self.lock:  # the watching thread may be in the middle of its last look
                self.background.forget()
                for key in [k for k in self.earlier if not self.background.store.has(k)]:
                    self.earlier.pop(key), self.latest.pop(key, None)
                self.background = None
                self.where.value = "stopped and forgotten; finished runs stay in the store"
                self.bar.value = 0
                self.redraw()

    def report(self, background: BackgroundRun, now: Mapping[str, Mapping[str, Any]]) -> None:
        for key, run in now.items():
            if run.get("train_loss") is not None:
                self.latest[key] = run["step"], run["train_loss"]
        waiting = [(number, key) for number, key in enumerate(now) if not now[key]["done"]]
        if background.state == "running" and waiting:
            number, key = waiting[0]
            one = background.runs[key]
            who = "student" if number == len(now) - 1 else f"its teacher first ({one.model}, seed {one.seed})"
            step, total = now[key]["step"], now[key]["total"]
            self.where.value = f"{who}: step {step} of {total}" if step else f"{who}: starting ..."
        else:
            self.where.value = STATES.get(background.state, "")
        self.redraw()

    def adapt(self, changed: str) -> None:
        if changed:
            self.where.value, self.bar.value = "", 0
        for name in OWN if changed == "profile" else ():
            self.control[name].value = self.settings[name]

    def key(self) -> str | None:
        """Of the run of the present settings; None where they cannot run, which the message over the picture says."""
        try:
            return lab.run_key(self.spec()) if self.failure is None else None
        except SpecError:
            return None

    def finished(self) -> bool:
        """Whether the run of the present settings is in the store, so that there is nothing to start."""
        key = self.key()
        return key is not None and Store().has(key)

    def _enable(self) -> None:
        super()._enable()
        if self.state not in ("running", "paused") and not self.where.value and self.finished():
            self.where.value = FINISHED

    def usable(self) -> dict[str, bool]:
        state, fits = self.state, self.key() is not None or self.background is not None
        idle, resumable = state not in ("running", "paused"), state in ("paused", "failed")
        return {"start": idle and fits and not self.finished(), "pause": state == "running", "resume": resumable,
                "stop": resumable or state == "running", "": idle}  # fmt: skip
