"""The command line; ``--help`` imports neither torch nor matplotlib. Each command works in the module of its name."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from kdlab import foreign, paths, settings
from kdlab.cli import runs
from kdlab.errors import SpecError

DEVICE = "KDLAB_DEVICE"
app = typer.Typer(
    help="See what data augmentation does to knowledge distillation.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip

app.add_typer(runs.app, name="runs")

ProfileOption = Annotated[Optional[str], typer.Option("--profile", help="smoke, quick, standard, full or paper")]  # noqa: UP045
DataOption = Annotated[Optional[str], typer.Option("--data", help="fashion, cifar10, folder:PATH ...")]  # noqa: UP045
TeacherOption = Annotated[Optional[str], typer.Option("--teacher", help="the teacher's, or module:Class?option=value")]  # noqa: UP045
StudentOption = Annotated[Optional[str], typer.Option("--student", help="the student's, or module:Class?option=value")]  # noqa: UP045
SeedsOption = Annotated[Optional[int], typer.Option("--seeds", help="how many seeds, from 0")]  # noqa: UP045
EpochsOption = Annotated[Optional[float], typer.Option("--epochs", help="of a student")]  # noqa: UP045
StepsOption = Annotated[Optional[int], typer.Option("--steps", help="of a student, instead of epochs")]  # noqa: UP045
TeacherEpochsOption = Annotated[Optional[float], typer.Option("--teacher-epochs", help="of a teacher")]  # noqa: UP045
OriginalsOption = Annotated[Optional[int], typer.Option("--originals", help="a step, of both")]  # noqa: UP045
WorkersOption = Annotated[Optional[int], typer.Option("--workers", help="processes; 0 trains in this one")]  # noqa: UP045


def _train_on(device: str | None) -> None:
    """What ``--device`` says holds for this command and all processes that it starts."""
    if device is not None:
        settings.device(device, "--device")
        os.environ[DEVICE] = device


DeviceOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--device", help="cpu, cuda, cuda:N or mps; else $KDLAB_DEVICE", callback=_train_on, expose_value=False
    ),
]


def main() -> None:
    """Run a command; a user's mistake ends with one sentence and exit code 2, never with a traceback."""
    foreign.stand()
    device = os.environ.get(DEVICE)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM stops as cleanly as Ctrl-C
    try:
        settings.check(settings.FOLDERS if "doctor" not in sys.argv else ())
        for words in settings.misspelt():
            print(f"kdlab: {words}", file=sys.stderr)
        paths.settle()
        sys.exit(app(standalone_mode=False))  # a command's own exit code comes back as a value
    except SpecError as error:
        sys.exit(_refuse(str(error)))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except OSError as error:
        if error.filename is None:
            raise
        sys.exit(_refuse(f"{str(error.filename)[:200]!r}: {error.strerror}"))
    except Exception as error:
        if hasattr(error, "format_message"):  # click's own usage errors
            sys.exit(_refuse(error.format_message()))
        raise
    finally:  # what --device said ends with its command
        os.environ.pop(DEVICE, None) if device is None else os.environ.update({DEVICE: device})


def _refuse(message: str) -> int:
    print(f"kdlab: {message}", file=sys.stderr)
    return 2


@app.command()
def figures(
    names: Annotated[Optional[list[str]], typer.Argument(help="perspectives; none means the profile's own")] = None,  # noqa: UP045
    profile: ProfileOption = None,
    data: DataOption = None,
    teacher: TeacherOption = None,
    student: StudentOption = None,
    seeds: SeedsOption = None,
    epochs: EpochsOption = None,
    steps: StepsOption = None,
    teacher_epochs: TeacherEpochsOption = None,
    originals: OriginalsOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = None,
    until: Annotated[Optional[str], typer.Option(help="decided: add seeds while looking, until claims are")] = None,  # noqa: UP045
    at_most: Annotated[Optional[str], typer.Option(help="with --until: 90m, 2h, 1h30m; then no seed is added")] = None,  # noqa: UP045
    cluster: Annotated[Optional[str], typer.Option(help="Dask's: tcp://HOST:8786, local:4 or slurm")] = None,  # noqa: UP045
    plan: Annotated[bool, typer.Option("--plan", help="say what would be trained, and stop")] = False,
    p: Annotated[Optional[list[str]], typer.Option("-p", help="notebook parameter, key=value")] = None,  # noqa: UP045
) -> None:
    """Train what is missing, run the notebooks, draw figures, verdicts and the gallery page."""
    from kdlab.cli.figures import figures

    given = {"data": data, "teacher": teacher, "student": student, "seeds": seeds}
    given |= {"epochs": epochs, "steps": steps, "teacher_epochs": teacher_epochs, "originals": originals}
    done = figures(
        names or None, profile, given, p or [], workers=workers, cluster_name=cluster, only_plan=plan, until=until,
        at_most=at_most,
    )  # fmt: skip
    raise typer.Exit(0 if done else 1)


@app.command()
def run(
    method: Annotated[str, typer.Argument(help="see `kdlab methods`, or module:Class")] = "kd",
    profile: ProfileOption = None,
    data: DataOption = None,
    teacher: Annotated[Optional[str], typer.Option(help="model name, or a file of weights, FILE?weights=ema")] = None,  # noqa: UP045
    arch: Annotated[Optional[str], typer.Option(help="model of the teacher's file of weights")] = None,  # noqa: UP045
    teacher_classes: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="the data's classes in the order of the file's (bar,disc), or its names=ours"),
    ] = None,
    student: StudentOption = None,
    augmentation: Annotated[str, typer.Option(help="see `kdlab augmentations`")] = "weak",
    views: Annotated[Optional[int], typer.Option(help="rows per original")] = None,  # noqa: UP045
    ratio: Annotated[Optional[float], typer.Option(help="share of augmented rows, 0 to 1")] = None,  # noqa: UP045
    epochs: EpochsOption = None,
    steps: StepsOption = None,
    teacher_epochs: TeacherEpochsOption = None,
    originals: OriginalsOption = None,
    fraction: Annotated[float, typer.Option(help="share of the training images, 0 to 1")] = 1.0,
    seed: Annotated[int, typer.Option(help="first seed")] = 0,
    seeds: Annotated[int, typer.Option(help="how many seeds")] = 1,
    workers: WorkersOption = None,
    device: DeviceOption = None,
    plan: Annotated[bool, typer.Option("--plan", help="say what would be trained, and stop")] = False,
) -> None:
    """One distillation without a notebook: teacher, student, and how well they did."""
    from kdlab.cli.distil import distil
    from kdlab.lab import query

    table = distil(
        method, profile, data=data, teacher=teacher, arch=arch, teacher_classes=teacher_classes, student=student,
        augmentation=augmentation, views=views, ratio=ratio, epochs=epochs, steps=steps, teacher_epochs=teacher_epochs,
        originals=originals, fraction=fraction, seed=seed, seeds=seeds, workers=workers, only_plan=plan,
    )  # fmt: skip
    if table is not None:
        print(query.show(table))


@app.command()
def compare(first: str, second: str) -> None:
    """What differs between two runs, and the paired test over all seeds that both have."""
    from kdlab.cli.compare import compare

    print(compare(first, second))


@app.command()
def export(key: str, out: Annotated[Path, typer.Option(help="folder to write to")] = Path("exported")) -> None:
    """A run's weights (safetensors), spec, and a word on how to load them."""
    from kdlab.lab.export import export

    print(export(key, out))


@app.command()
def data(
    name: Annotated[Optional[str], typer.Argument(help="fashion, folder:PATH ...; none lists all")] = None,  # noqa: UP045
    sheet: Annotated[Optional[Path], typer.Option(help="write the contact sheet to this png file")] = None,  # noqa: UP045
    download: Annotated[bool, typer.Option("--download", help="fetch what is missing: cifar10 ...")] = False,
) -> None:
    """What a data set holds as it is read: classes, images, oddities, a linear model, and a contact sheet."""
    from kdlab.cli import tables

    print(tables.data(name, sheet, download))


@app.command()
def advise(
    data: Annotated[Optional[str], typer.Argument(help="folder:PATH: train on these images, and answer")] = None,  # noqa: UP045
    images: Annotated[Optional[int], typer.Option(help="without data: training images of the student")] = None,  # noqa: UP045
    epochs: Annotated[Optional[float], typer.Option(help="passes over them")] = None,  # noqa: UP045
    teacher_saw: Annotated[Optional[float], typer.Option(help="without data: images the teacher saw")] = None,  # noqa: UP045
    figures: Annotated[Optional[Path], typer.Option(help="without data: folder of a drawn map")] = None,  # noqa: UP045
    teacher: TeacherOption = None,
    arch: Annotated[Optional[str], typer.Option(help="the model of a teacher's file")] = None,  # noqa: UP045
    teacher_classes: Annotated[str | None, typer.Option(help="its classes, where they stand in another order")] = None,
    student: StudentOption = None,
    augmentations: Annotated[Optional[str], typer.Option(help="to compare, such as jda,rotation")] = None,  # noqa: UP045
    seeds: SeedsOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = None,
    plan: Annotated[bool, typer.Option("--plan", help="say what would be trained, and stop")] = False,
    out: Annotated[Optional[Path], typer.Option(help="folder to keep the answer in")] = None,  # noqa: UP045
) -> None:
    """Which augmentation to distil with: on your own images, or (without data) by the map of when_it_pays."""
    from kdlab.cli import advise

    own = {"teacher": teacher, "arch": arch, "teacher_classes": teacher_classes, "student": student,
           "augmentations": augmentations, "seeds": seeds}  # fmt: skip
    of_map = {"images": images, "teacher_saw": teacher_saw, "figures": figures}
    strangers = of_map if data else own | {"out": out, "workers": workers, "plan": plan or None}
    if odd := [name for name, value in strangers.items() if value is not None]:
        with_ = "without data, for the map" if data else "with data, such as folder:PATH"
        raise SpecError(f"--{odd[0].replace('_', '-')} is for a question {with_}; leave it out.")
    if data:
        print(advise.of_images(data, own | {"epochs": epochs}, workers=workers, only_plan=plan, out=out))
    else:
        print(advise.of_map(images, epochs, teacher_saw, figures))


@app.command()
def methods(
    name: Annotated[Optional[str], typer.Argument(help="show this one in full, with its options")] = None,  # noqa: UP045
) -> None:
    """The distillation methods, by the knowledge they pass on, and what they need."""
    from kdlab.cli import tables

    print(tables.methods(name))


@app.command()
def augmentations(
    name: Annotated[Optional[str], typer.Argument(help="show this one in full, with its options")] = None,  # noqa: UP045
    data: Annotated[Optional[str], typer.Option("--data", help="say which may change a label of these data")] = None,  # noqa: UP045
) -> None:
    """The augmentations, and which of them mix images or pick rows."""
    from kdlab.cli import tables

    print(tables.augmentations(name, data))


@app.command()
def tune(
    methods: Annotated[Optional[list[str]], typer.Argument(help="methods; none means the profile's")] = None,  # noqa: UP045
    profile: ProfileOption = None,
    data: DataOption = None,
    teacher: TeacherOption = None,
    student: StudentOption = None,
    seeds: Annotated[str, typer.Option(help="seeds that the profile does not compare on")] = "100,101,102",
    workers: WorkersOption = None,
    device: DeviceOption = None,
    plan: Annotated[bool, typer.Option("--plan", help="say what would be trained, and stop")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="let perspectives use the chosen weights")] = False,
) -> None:
    """Try each method's own weight at 1/4, 1 and 4 times its default, and choose on val."""
    from kdlab.perspectives import tuning

    given = {"data": data, "teacher": teacher, "student": student}
    tuning.tune(methods, profile, given, seeds, workers=workers, only_plan=plan, keep=keep)


@app.command()
def doctor() -> None:
    """Versions, device, data, disk and the state of the store."""
    from kdlab.cli.doctor import doctor

    print(doctor())


@app.command()
def bench(
    names: Annotated[Optional[list[str]], typer.Argument(help="benchmarks; none means all")] = None,  # noqa: UP045
    listed: Annotated[bool, typer.Option("--list", help="say what there is, and stop")] = False,
) -> None:
    """Measure speed as ratios: augmentation, cohorts, workers, scale (benchmarks/README.md)."""
    from kdlab.cli import bench

    raise typer.Exit(0 if bench.bench(names or [], listed=listed) else 1)


@app.command()
def lab(
    port: Annotated[int, typer.Option(help="of this machine; the next free one if it is taken")] = 8888,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="print the address, open nothing")] = False,
    voila: Annotated[bool, typer.Option("--voila", help="one page of sliders for a class, without code")] = False,
    share: Annotated[bool, typer.Option("--share", help="with --voila: let others in the network open it")] = False,
    folder: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--folder", help="with --voila: a folder of images that visitors may use; again for more"),
    ] = None,
) -> None:
    """Open the notebooks in JupyterLab, or one page of them with --voila."""
    from kdlab.cli import serve

    if share and not voila:
        raise SpecError("--share needs --voila: whoever opens JupyterLab can run anything on this machine.")
    if folder and not voila:
        raise SpecError("--folder needs --voila: in JupyterLab every folder can be named.")
    browser = not no_browser
    raise typer.Exit(serve.voila(port, browser, share, folders=folder or ()) if voila else serve.lab(port, browser))
