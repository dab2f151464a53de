"""Bring your own images and teacher, and ask which augmentation to distil with."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from kdlab import lab
from kdlab.data import visitors
from kdlab.lab.keys import steps
from kdlab.paths import absolute
from kdlab.perspectives import Study, own_images
from kdlab.registry import catalogue
from kdlab.widgets.background_run import BackgroundRun
from kdlab.widgets.charts.colours import PLAIN
from kdlab.widgets.charts.tiles import Tiles, Words
from kdlab.widgets.custom_study import custom_study, example, samples, verdict_drawing
from kdlab.widgets.drawing import Drawing
from kdlab.widgets.training import TrainingExplorer

TEACHERS = (
    "resnet8_s2_w16", "resnet8_s2_w32", "resnet20", "resnet56", "wrn_40_2", "vgg13", "torchvision.models:resnet18",
    "torchvision.models:resnet50", "torchvision.models:mobilenet_v3_small", "torchvision.models:vgg11_bn",
)  # fmt: skip


class OwnImages(TrainingExplorer):
    """A folder of images, a teacher, some augmentations: look, plan, run, and read the answer.

    Each augmentation is compared with two weak views of equal cost, paired over seeds, on val; the test accuracy of the
    chosen one follows afterwards. With the usual settings it is the answer of ``kdlab advise folder:PATH``.

    Args:
        **settings: as in ``custom_study`` (``folder``, ``size``, ``teacher``, ``checkpoint``, ``classes``,
            ``student``, ``augmentations``, ``seeds``, ``epochs``).

    Raises:
        SpecError: for an unknown setting.
    """

    TITLE = "Bring your own images"
    QUESTION = "Which augmentation should I distil with? Take a folder with one sub-folder of images per class."
    DEFAULTS = {
        "folder": "", "size": 0, "teacher": "resnet8_s2_w16", "checkpoint": "", "classes": "",
        "student": "resnet8_s2_w8", "augmentations": ("jda", "rotation"), "seeds": 6, "epochs": 0.0,
    }  # fmt: skip

    example = staticmethod(example)

    def study(self) -> Study:
        """The study of the present settings.

        Raises:
            SpecError: when it cannot run.
        """
        s = self.settings
        folder = str(absolute(s["folder"].strip())) if s["folder"].strip() else ""
        if folder and visitors.here():
            visitors.check_folder(folder, also=self.cached("example", example))
        return custom_study(**s | {"folder": folder})

    def plan(self) -> str:
        """What was read, what would be trained, how long it may take and what it costs, as an HTML fragment.

        Raises:
            SpecError: when it cannot run.
        """
        study = self.study()
        todo = lab.plan(study.specs)
        runs = [todo.specs[key] for key in todo.missing]
        rows = sum(steps(s) * s.budget.originals_per_step * s.views for s in runs)
        forwards = sum(steps(s) * s.budget.originals_per_step * s.views for s in runs if s.teacher is not None)
        lines = [*todo.describe(fit=True).split("\n"), f"{rows:,} student images, {forwards:,} teacher forwards"]
        lines += own_images.on_the_map(study)
        return "<br>".join(escape(line.strip()) for line in lines if line)

    # ---- the picture -------------------------------------------------------------------------------------------------

    def static(self) -> Drawing:
        """Train what is missing, here and now but in another process, then draw the answer."""
        lab.run(self.study().specs, workers=1, progress=False)
        return self.draw()

    def draw(self) -> Drawing:
        if not self.settings["folder"].strip():
            advice = "Type its path above, or press “Example” for a small one made of bundled images."
            words = [Words("No folder yet.", bold=True, size=17),
                     Words("Choose one above." if visitors.here() else advice, PLAIN)]  # fmt: skip
            return Drawing([[Tiles([words], 300, 600)]], "No folder of images has been chosen yet")
        study = self.study()
        return verdict_drawing(study, study.table()) if study.finished else samples(study.profile.data)

    # ---- controls ----------------------------------------------------------------------------------------------------

    def controls(self) -> dict[str, Any]:
        typed = {"continuous_update": False}
        named = typed | {"ensure_option": False}
        classes = "ours in its order (bar,disc), or its=ours; empty: as they are here"
        policies = sorted(n for n in catalogue("augment") if n != "weak")
        made = {
            "folder": self.field("Text", "folder", width="520px", placeholder="path of a folder", **typed),
            "size": self.field("BoundedIntText", "size", "resize to", "140px", min=0, max=512,
                               tooltip="pixels a side; 0: as most of them are"),
            "teacher": self.field("Combobox", "teacher", width="360px", options=TEACHERS, **named),
            "checkpoint": self.field("Text", "checkpoint", "its weights", "420px",
                                     placeholder="a file; empty: train it here", **typed),
            "student": self.field("Combobox", "student", width="260px", options=tuple(catalogue("models")), **named),
            "classes": self.field("Text", "classes", "its classes", "420px", placeholder=classes, **typed),
            "epochs": self.field("BoundedFloatText", "epochs", width="130px", min=0, max=1e4,
                                 tooltip="0: as many as students need to converge"),
            "seeds": self.field("BoundedIntText", "seeds", width="120px", min=2, max=40),
            "augmentations": self.field("SelectMultiple", "augmentations", options=policies, rows=5,
                                        tooltip="Ctrl or Shift picks several"),
            "try_example": self.button("Example", self.try_example, "A small folder made of bundled images"),
            "look": self.button("Plan", self.look, "What would be trained, how long, at what cost", "list"),
            "run": self.button("Run", self.run, "Train what is missing", "play", button_style="primary"),
            "pause": self.button("Pause", self.pause, "Stop at the end of the step, keep everything", "pause"),
        }  # fmt: skip
        return self._offered(made) if visitors.here() else made

    def _offered(self, made: dict[str, Any]) -> dict[str, Any]:
        """What a visitor can set: no path of this machine, and no code of it, can be named."""
        known = {"teacher": TEACHERS, "student": tuple(catalogue("models"))}
        made |= {name: self.field("Dropdown", name, options=there) for name, there in known.items()}
        places = [(Path(path).name, path) for path in visitors.folders()]
        places = [("choose one", ""), *places, ("example of bundled images", self.cached("example", example))]
        made["folder"] = self.field("Dropdown", "folder", options=places)
        return {name: control for name, control in made.items() if name not in ("checkpoint", "classes", "try_example")}

    def below(self) -> list[Any]:
        import ipywidgets as w

        self.plan_text = w.HTML()
        return [self.plan_text, *super().below()]

    def try_example(self) -> None:
        """Fill in a folder that is there."""
        self.set(folder=example(), size=0, epochs=20.0)  # three classes that are easy to tell apart

    def adapt(self, changed: str) -> None:
        if changed:  # what was said was of other settings
            self.plan_text.value, self.where.value, self.bar.value = "", "", 0

    def look(self) -> None:
        """Show the plan."""
        self.plan_text.value = f"<p>{self.plan()}</p>"

    def run(self) -> None:
        """Train what is missing."""
        with self.lock:
            self.look()
            self.background = BackgroundRun(self.study().specs, self._tick)
        self.background.start()

    def report(self, background: BackgroundRun, now: Mapping[str, Mapping[str, Any]]) -> None:
        finished = sum(run["done"] for run in now.values())
        state = {"running": "training", "paused": "paused; Run goes on", "done": "done"}.get(background.state, "")
        self.where.value = f"{finished} of {len(now)} runs {state}"
        if background.state == "done":
            self.plan_text.value = ""  # it was of what is done now
            if not visitors.here():
                self.where.value += f"; kept in {escape(str(self.keep()))}"
            self.redraw()

    def keep(self) -> Path:
        """Write the answer to a folder, and say where (``own_images.keep``)."""
        s, study = self.settings, self.study()
        file = s["checkpoint"].strip()
        given = {
            "teacher": file or s["teacher"], "arch": s["teacher"] if file else None,
            "teacher_classes": s["classes"].strip() or None, "student": s["student"],
            "augmentations": ",".join(s["augmentations"]), "seeds": s["seeds"], "epochs": s["epochs"] or None,
        }  # fmt: skip
        return own_images.keep(study, study.table(), own_images.command(study.profile.data, given))

    def usable(self) -> dict[str, bool]:
        running = self.state == "running"
        return {"pause": running, "": not running}
