"""Bring your own images and teacher, and ask which augmentation to distil with."""

from __future__ import annotations

from html import escape
from typing import Any

from kdlab import lab
from kdlab.lab.keys import steps
from kdlab.paths import absolute
from kdlab.perspectives import Study
from kdlab.registry import catalogue
from kdlab.widgets.background_run import BackgroundRun
from kdlab.widgets.canvas import PLAIN, Sheet
from kdlab.widgets.custom_study import custom_study, example, samples, verdict_drawing
from kdlab.widgets.explorer import Drawing, Explorer

TEACHERS = (
    "resnet8_s2_w16", "resnet8_s2_w32", "resnet20", "resnet56", "wrn_40_2", "vgg13", "torchvision.models:resnet18",
    "torchvision.models:resnet50", "torchvision.models:mobilenet_v3_small", "torchvision.models:vgg11_bn",
)  # fmt: skip


class OwnImages(Explorer):
    """A folder of images, a teacher, some augmentations: look, plan, run, and read the answer.

    Each augmentation is compared with two weak views of equal cost, paired over seeds, on val; the test accuracy of the
    chosen one follows afterwards.

    Args:
        **settings: as in ``custom_study`` (``folder``, ``size``, ``teacher``, ``checkpoint``, ``classes``,
            ``student``, ``augmentations``, ``seeds``, ``epochs``).

    Raises:
        SpecError: for an unknown setting.
    """

    TITLE = "Bring your own images"
    QUESTION = "Which augmentation should I distil with? Point at a folder: one sub-folder of images per class."
    DEFAULTS = {
        "folder": "", "size": 32, "teacher": "resnet8_s2_w16", "checkpoint": "", "classes": "",
        "student": "resnet8_s2_w4", "augmentations": ("jda", "rotation"), "seeds": 6, "epochs": 5.0,
    }  # fmt: skip

    example = staticmethod(example)

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.background: BackgroundRun | None = None

    def study(self) -> Study:
        """The study of the present settings.

        Raises:
            SpecError: when it cannot run.
        """
        s = self.settings
        folder = str(absolute(s["folder"].strip())) if s["folder"].strip() else ""
        return custom_study(**s | {"folder": folder})

    def plan(self) -> str:
        """What was read, what would be trained, how long it may take and what it costs, as an HTML fragment.

        Raises:
            SpecError: when it cannot run.
        """
        todo = lab.plan(self.study().specs)
        runs = [todo.specs[key] for key in todo.missing]
        rows = sum(steps(s) * s.budget.originals_per_step * s.views for s in runs)
        forwards = sum(steps(s) * s.budget.originals_per_step * s.views for s in runs if s.teacher is not None)
        lines = [*todo.describe(fit=True).split("\n"), f"{rows:,} student images, {forwards:,} teacher forwards"]
        return "<br>".join(escape(line.strip()) for line in lines)

    # ---- the picture -------------------------------------------------------------------------------------------------

    def static(self) -> Drawing:
        """Train what is missing, here and now but in another process, then draw the answer."""
        lab.run(self.study().specs, workers=1, progress=False)
        return self.draw()

    def draw(self) -> Drawing:
        if not self.settings["folder"].strip():
            sheet = Sheet(90)
            sheet.write(20, 22, "No folder yet.", 18, bold=True)
            sheet.write(
                20, 52, "Type its path above, or press “Example” for a small one made of bundled images.", 14, PLAIN
            )
            return Drawing(sheet.png(), "No folder of images has been chosen yet")
        study = self.study()
        return verdict_drawing(study, study.table()) if study.finished else samples(study.profile.data)

    # ---- controls ----------------------------------------------------------------------------------------------------

    def controls(self) -> dict[str, Any]:
        import ipywidgets as w

        s, wide, long = self.settings, {"description_width": "initial"}, {"width": "420px"}
        policies = sorted(n for n in catalogue("augment") if n != "weak")
        typed = {"continuous_update": False, "style": wide}
        return {
            "folder": w.Text(s["folder"], description="folder", placeholder="path of a folder",
                             layout={"width": "520px"}, **typed),
            "size": w.BoundedIntText(s["size"], min=8, max=512, description="resize to", style=wide,
                                     layout={"width": "140px"}),
            "teacher": w.Combobox(value=s["teacher"], options=TEACHERS, description="teacher", ensure_option=False,
                                  layout={"width": "360px"}, **typed),
            "checkpoint": w.Text(s["checkpoint"], description="its weights", placeholder="a file; empty: train it here",
                                 layout=long, **typed),
            "student": w.Combobox(value=s["student"], options=tuple(catalogue("models")), description="student",
                                  ensure_option=False, layout={"width": "260px"}, **typed),
            "classes": w.Text(s["classes"], description="its classes", layout=long, **typed,
                              placeholder="ours in its order (bar,disc), or its=ours; empty: as they are here"),
            "epochs": w.BoundedFloatText(s["epochs"], min=0.1, max=1e4, description="epochs", style=wide,
                                         layout={"width": "130px"}),
            "seeds": w.BoundedIntText(s["seeds"], min=2, max=40, description="seeds", style=wide,
                                      layout={"width": "120px"}),
            "augmentations": w.SelectMultiple(options=policies, value=tuple(s["augmentations"]), rows=5, style=wide,
                                              description="augmentations", tooltip="Ctrl or Shift picks several"),
        } | self._buttons(w)  # fmt: skip

    def _buttons(self, w) -> dict[str, Any]:
        made = {
            "try_example": w.Button(description="Example", tooltip="A small folder made of bundled images"),
            "look": w.Button(description="Plan", icon="list", tooltip="What would be trained, how long, at what cost"),
            "run": w.Button(description="Run", icon="play", button_style="primary", tooltip="Train what is missing"),
            "pause": w.Button(
                description="Pause", icon="pause", tooltip="Stop at the end of the step, keep everything"
            ),
        }
        for name, button in made.items():
            button.on_click(lambda _, name=name: self._clicked(getattr(self, name)))
        self.bar = w.IntProgress(0, min=0, max=1, layout={"width": "360px"})
        self.where, self.plan_text = w.Label(""), w.HTML()
        return made

    def below(self) -> list[Any]:
        import ipywidgets as w

        return [self.plan_text, w.HBox([self.bar, self.where], layout={"flex_flow": "row wrap"})]

    def _clicked(self, act) -> None:
        with self.errors_shown():
            act()
        self._states()

    def try_example(self) -> None:
        """Fill in a folder that is there."""
        self.set(folder=example(), size=28, epochs=20.0)  # few images: a teacher needs the steps

    def look(self) -> None:
        """Show the plan."""
        self.plan_text.value = f"<p>{self.plan()}</p>"

    def run(self) -> None:
        """Train what is missing."""
        with self.lock:
            self.look()
            self.background = BackgroundRun(self.study().specs, self._tick)
        self.background.start()

    def pause(self) -> None:
        """Stop at the end of the step; Run goes on."""
        if self.background:
            self.background.pause()

    def _tick(self) -> None:
        with self.lock, self.errors_shown():
            background = self.background
            now = background.progress()
            self.bar.max = sum(run["total"] for run in now.values())
            self.bar.value = sum(run["step"] for run in now.values())
            finished = sum(run["done"] for run in now.values())
            state = {"running": "training", "paused": "paused; Run goes on", "done": "done"}.get(background.state, "")
            self.where.value = f"{finished} of {len(now)} runs {state}"
            if background.state == "done":
                self.redraw()
            if background.state == "failed":
                raise background.error
        self._states()

    def redraw(self) -> None:
        super().redraw()
        self._states()

    def _states(self) -> None:
        """Which controls can be used now."""
        running = self.background is not None and self.background.state == "running"
        for name, control in self.control.items():
            control.disabled = not running if name == "pause" else running
