"""What a GPU would do, done on the CPU: pixels, students as one network, steps without the host, graphs replayed."""

import contextlib
import copy

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from kdlab import lab, settings, training
from kdlab.augment import pointwise
from kdlab.augment.weak import CropFlip
from kdlab.data import load
from kdlab.data.sets import ImageSet, Splits
from kdlab.losses import Batch
from kdlab.losses.ccd import first_views
from kdlab.models import build, outputs
from kdlab.registry import catalogue, create
from kdlab.rng import generator
from kdlab.spec import Budget, Optimiser, RunSpec
from kdlab.training import Arm, Views, loop
from kdlab.training.gpu import abreast, reasons, stepper
from kdlab.training.gpu.abreast import Abreast
from kdlab.training.gpu.stack import Grouped, Stack, Vmapped, network
from kdlab.training.gpu.stepper import DeviceStepper

ORIGINALS, STEPS = 16, 5
KD = RunSpec(
    sizes=(160, 50, 50), model="resnet8_s2_w4", method="kd", views=2, augmentation="jda", ratio=0.5,
    budget=Budget(STEPS, "steps", ORIGINALS),
)  # fmt: skip
AUGMENTATIONS = [name for name in catalogue("augment") if name != "autoaugment"]  # imports torchvision for a second


class Elsewhere(torch.Tensor):
    """A tensor that takes itself for one of another device, and so the paths of those, and answers no question."""

    is_cpu = property(lambda self: False)

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        reasons.refuse_question(func, args)
        return super().__torch_function__(func, types, args, kwargs or {})


class Device(TorchFunctionMode):
    """Inside, every tensor takes itself for one of another device, and answers no question."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func == torch.Tensor.is_cpu.__get__:
            return False
        if func is not torch.tensor:  # a copy to a device keeps nobody waiting
            reasons.refuse_question(func, args)
        return func(*args, **(kwargs or {}))


def colours(n=24, side=32):
    return torch.randint(256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


# --- views --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_pixels_of_a_device_are_those_of_the_cpu_and_it_is_asked_nothing(name):
    for part in (create("augment", name), CropFlip()):
        params = part.draw(24, (3, 32, 32), generator(0, name))
        away = part.apply(colours().as_subclass(Elsewhere), params).as_subclass(torch.Tensor)
        assert torch.equal(away, part.apply(colours(), params))


def test_first_views_are_found_on_a_device_as_on_the_cpu():
    batch = Batch.of(torch.zeros(12, dtype=torch.long), views=3)
    for rows in (torch.arange(12), torch.tensor([5, 0, 9, 4, 11, 2])):
        some = Batch.of(batch.label[rows], origin=batch.origin[rows], view=batch.view[rows])
        with Device():
            found = first_views(some)
        assert torch.equal(found, first_views(some))


def test_a_still_channel_stays_on_a_device_too():
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    assert torch.equal(pointwise.equalize(images.as_subclass(Elsewhere)).as_subclass(torch.Tensor), images)


def networks():
    teacher = build("resnet8_s2_w8", 10, 1, seed=9).eval().requires_grad_(False)
    return load("fashion", sizes=KD.sizes), teacher


def cohort_views():
    splits, teacher = networks()
    return Views(splits.train, 0, 0, ORIGINALS, {"t": teacher})


SPECS = {
    "a": KD, "b": KD.replace(optimiser=Optimiser(lr=0.02)), "c": KD.replace(method="ccd"),
    "d": KD.replace(method="fitnet"), "e": KD.replace(augmentation="mixup"), "f": KD.replace(method="ce"),
    "g": KD.replace(teacher_view="clean", ratio=0.25), "h": KD.replace(teacher_view="independent"),
}  # fmt: skip


def arms_of(specs, views, steps=STEPS):
    arms = [Arm(name, spec, None if spec.method == "ce" else "t", steps) for name, spec in specs.items()]
    return [arm.build(views, 10, 1) for arm in arms]


def test_the_steps_of_a_cohort_ask_a_device_for_no_number():
    """Batches, teacher, students, losses and optimiser, those of eight arms; views are asked above."""
    views = cohort_views()
    arms, taken = arms_of(SPECS, views), DeviceStepper(views.device)
    for step in range(2):
        views.at(step)
        for arm in arms:
            views.ingredients(arm.layout, arm.spec.teacher_view)
            views._frozen_teacher("t", views.clean())
        with Device():
            taken.step(arms)
            assert not taken.read(due=False)
    assert [arm.step for arm in arms] == [2] * len(arms)
    with Device(), pytest.raises(reasons.HostDecision):
        taken.read(due=True)
    taken.read(due=True)
    assert all(len(arm.losses) == 2 for arm in arms)


# --- students as one network ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [Vmapped, Grouped])
@pytest.mark.parametrize(("model", "shared"), [("resnet8_s2_w8", True), ("wrn_16_1", False)])
def test_each_student_is_stepped_as_by_itself(way, model, shared):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(*(() if shared else (3,)), 6, 1, 12, 12, generator=draw, dtype=torch.float64)
    label = torch.arange(6) % 10
    apart = [build(model, 10, 1, seed=seed).double().train() for seed in range(3)]
    stack = Stack(copy.deepcopy(apart))
    said = way(stack)(x)
    loss = lambda out: F.cross_entropy(out.logits, label) + out.features[1].square().mean() + out.stem.mean()  # noqa: E731
    rows = [said._map(lambda maps, k=k: maps[k]) for k in range(3)]
    gradients = torch.autograd.grad(sum(map(loss, rows)), list(stack.weights.values()))
    gradients = dict(zip(stack.weights, gradients, strict=True))
    for k, (one, row) in enumerate(zip(apart, rows, strict=True)):
        alone = outputs(one, x if shared else x[k])
        for a, b in zip((alone.logits, *alone.features, alone.embedding, alone.final, alone.stem),
                        (row.logits, *row.features, row.embedding, row.final, row.stem), strict=True):  # fmt: skip
            torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-12)
        loss(alone).backward()
        for name, parameter in one.named_parameters():
            torch.testing.assert_close(gradients[name][k], parameter.grad, rtol=1e-9, atol=1e-12)
        for name, buffer in one.named_buffers():
            torch.testing.assert_close(stack.buffers[name][k], buffer, rtol=1e-10, atol=1e-12)
            assert dict(stack.students[k].named_buffers())[name].data_ptr() == stack.buffers[name][k].data_ptr()


def test_vmap_takes_a_network_whose_channels_mix():
    x = torch.randn(4, 1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    apart = [build("ShuffleV2", 10, 1, seed=seed).double().train() for seed in range(2)]
    said = network(Stack(copy.deepcopy(apart)))(x)
    for one, logits in zip(apart, said.logits, strict=True):
        torch.testing.assert_close(logits, outputs(one, x).logits, rtol=1e-9, atol=1e-11)


def doubled(arms):
    """The same arms in double precision."""
    for arm in arms:
        for part in (arm.student, arm.method):
            part.double()
        arm.momentum = [m.double() for m in arm.momentum]
    return arms


@pytest.mark.parametrize("way", [Vmapped, Grouped])
def test_arms_of_all_kinds_step_abreast_as_one_by_one(way, monkeypatch):
    views, rate = cohort_views(), Optimiser(lr=0.05, momentum=0.0, nesterov=False, weight_decay=0.0)
    sam = {name: KD.replace(optimiser=Optimiser(rho=0.1, adaptive=name == "l")) for name in "kl"}
    specs = SPECS | {"i": KD.replace(optimiser=rate), "j": KD.replace(method="reviewkd")} | sam | {"m": sam["k"]}
    del specs["e"]  # shares of mixed images are in single precision
    apart, abreast = doubled(arms_of(specs, views)), doubled(arms_of(specs, views))
    monkeypatch.setattr(ImageSet, "normalise", lambda self, x: (x.double() / 255 - self.mean[0]) / self.std[0])
    monkeypatch.setattr(training.views, "frozen", lambda model, x, precision: model.double())
    kinds = {}
    for arm in abreast:
        kinds.setdefault(stepper.kind(arm), []).append(arm)
    groups = [Abreast(group, way) for group in kinds.values()]
    assert sorted(len(group.arms) for group in groups) == [1, 1, 2, len(specs) - 4]
    for step in range(2):
        views.at(step)
        for arm in apart:
            arm.train_step()
        for group in groups:
            group.aim()
            losses = group.step()
            for arm, loss in zip(group.arms, losses.tolist(), strict=True):
                other = next(one for one in apart if one.key == arm.key)
                assert loss == pytest.approx(other.losses[-1], rel=1e-9)
                arm.step += 1
    for one, other in zip(apart, abreast, strict=True):
        for name, value in one.state()[0].items():
            torch.testing.assert_close(other.state()[0][name], value, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("way", [Vmapped, Grouped])
def test_half_precision_is_that_of_separate_steps(way):
    views, specs = cohort_views(), {name: KD.replace(precision="bfloat16", seed=0) for name in "ab"}
    apart, group = arms_of(specs, views), Abreast(arms_of(specs, views), way)
    for step in range(2):
        views.at(step)
        for arm in apart:
            arm.train_step()
        group.aim()
        assert group.step().tolist() == pytest.approx([arm.losses[-1] for arm in apart], rel=0.02)


# --- the loop -----------------------------------------------------------------------------------------------------


def on_device(views):
    """What takes the steps of a cohort on a GPU, here on the CPU."""
    return DeviceStepper(views[0].device)


def train(specs, monkeypatch, make=None, steps=STEPS):
    """A cohort's results by key, with the beats that it got; each seed and fraction has views of its own."""
    splits, teacher = networks()
    if make:
        monkeypatch.setattr(loop, "stepper_of", make)
    nothing, done, beats, made = lambda *given: None, {}, [], {}
    arms = [Arm(name, s, None if s.method == "ce" else "t", steps) for name, s in specs.items()]
    for which in {(s.fraction, s.seed) for s in specs.values()}:
        made[which] = Views(splits.train.subset(*which), which[1], 0, ORIGINALS, {"t": teacher})
    views = {name: made[s.fraction, s.seed] for name, s in specs.items()}
    training.train(
        arms, Splits(*splits), views, restore=nothing, save=nothing,
        beat=lambda waiting: beats.append(waiting[0].step), finish=lambda arm, result: done.update({arm.key: result}),
    )  # fmt: skip
    return done, beats


def test_the_loop_reads_losses_now_and_then_and_ends_where_the_cpu_does(monkeypatch):
    specs = {"a": KD, "c": KD.replace(method="ccd"), "e": KD.replace(method="ce")}
    monkeypatch.setattr(loop, "CURVE_POINTS", 2)
    right, every = train(specs, monkeypatch)
    found, beats = train(specs, monkeypatch, on_device)
    assert every == list(range(1, STEPS)) and beats == [2, 4]
    for name in specs:
        assert found[name].numbers["steps"] == STEPS and found[name].numbers["seconds"] > 0
        assert [point["step"] for point in found[name].curve] == [point["step"] for point in right[name].curve]
        for mine, its in zip(found[name].curve, right[name].curve, strict=True):
            assert mine["train_loss"] == pytest.approx(its["train_loss"], rel=1e-4)
        for weight, value in right[name].student.items():
            torch.testing.assert_close(found[name].student[weight], value, rtol=1e-2, atol=1e-3)


def test_students_of_several_seeds_and_subsets_step_abreast_as_in_cohorts_of_their_own(monkeypatch):
    specs = {
        "a": KD, "b": KD.replace(seed=1), "c": KD.replace(method="ccd", seed=1), "d": KD.replace(fraction=0.5),
        "e": KD.replace(method="ce", seed=1), "f": KD.replace(augmentation="mixup"),
    }  # fmt: skip
    together, _ = train(specs, monkeypatch, on_device, steps=2)
    for name, spec in specs.items():
        alone, _ = train({name: spec}, monkeypatch, on_device, steps=2)
        for weight, value in alone[name].student.items():
            torch.testing.assert_close(together[name].student[weight], value, rtol=1e-2, atol=1e-3)
    pairs = zip(together["a"].student.values(), together["b"].student.values(), strict=True)
    assert not all(torch.equal(mine, its) for mine, its in pairs)


one_by_mapped = abreast._mapped


def test_a_graph_reads_the_inputs_of_all_views(monkeypatch):
    specs = {
        "a": KD, "b": KD.replace(seed=1), "c": KD.replace(seed=1, method="fitnet"), "d": KD.replace(ratio=0.25, seed=1),
        "e": KD.replace(method="ce"), "f": KD.replace(method="ce", fraction=0.5), "g": KD.replace(method="dist"),
        "h": KD.replace(method="dist", seed=1, teacher_view="clean"), "i": KD.replace(augmentation="mixup"),
    }  # fmt: skip
    kept, mapped = {}, []
    monkeypatch.setattr(abreast, "_mapped", lambda *given: mapped.append(len(given[2])) or one_by_mapped(*given))

    class Keeping(Views):
        def take(self, ingredients):
            kept[self] = ingredients
            super().take(ingredients)

    def record(work):
        read, result = dict(kept), torch.zeros(len(specs))

        def replay():
            for views, ingredients in read.items():
                views.take(ingredients)
            result.copy_(work())

        return replay, result

    monkeypatch.setitem(globals(), "Views", Keeping)
    eager, _ = train(specs, monkeypatch, on_device, steps=stepper.WARM + 1)
    make = lambda views: DeviceStepper(views[0].device, record)  # noqa: E731
    replayed, _ = train(specs, monkeypatch, make, steps=stepper.WARM + 1)
    assert len(kept) == 3 and {2, 4} <= {*mapped}  # losses of students on batches of their own, at once
    for name in specs:
        for k, value in eager[name].student.items():
            torch.testing.assert_close(replayed[name].student[k], value, rtol=1e-2, atol=1e-3)


def test_a_sweep_trains_its_seeds_and_subsets_in_one_cohort_where_a_gpu_trains(monkeypatch):
    small = KD.replace(budget=Budget(2, "steps", ORIGINALS))
    teacher = small.replace(method="ce", views=1, augmentation="weak", ratio=0.0, role="teacher")
    specs = [small.replace(seed=s, teacher=teacher.at_seed(s), fraction=f) for s in (0, 1) for f in (0.5, 1.0)]
    assert [len(cohort.runs) for cohort in lab.plan(specs).cohorts] == [1, 1, 1, 1, 1, 1]
    monkeypatch.setattr(settings, "on_gpu", lambda: True)
    monkeypatch.setattr(loop, "stepper_of", on_device)
    assert [len(cohort.runs) for cohort in lab.plan(specs[:2], specs[2:]).cohorts] == [2, 4]
    table = lab.run(specs[:2], specs[2:], workers=0, progress=False, require_teacher=False)
    assert len(table) == 4 and table["test_accuracy"].notna().all() and table["steps"].eq(2).all()


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
def test_a_diverging_arm_is_told_late_at_the_right_step_and_stays_where_it_was(monkeypatch):
    wild = KD.replace(optimiser=Optimiser(lr=1e30, warmup=0.0))
    right, _ = train({"wild": wild}, monkeypatch)
    found, _ = train({"a": KD, "wild": wild}, monkeypatch, on_device)
    assert found["wild"].numbers["diverged_at"] == right["wild"].numbers["diverged_at"] < STEPS - 1
    assert found["wild"].numbers["steps"] == right["wild"].numbers["steps"]
    assert not found["a"].numbers["diverged"]
    for result in found.values():  # running statistics are those of what was seen
        assert all(value.isfinite().all() for name, value in result.student.items() if "running" not in name)


def test_a_method_that_reads_its_student_s_layers_steps_alone(capsys):
    views, spec = cohort_views(), {"x": KD.replace(method="catkd")}
    (right,), (found,) = arms_of(spec, views), arms_of(spec, views)
    taken = DeviceStepper(views.device)
    for step in range(2):
        views.at(step)
        right.train_step()
        taken.step([found])
        assert taken.read(due=False) and found.losses == right.losses
    assert "catkd steps outside of the CUDA graph: it reads layers of its student" in capsys.readouterr().err
    assert all(torch.equal(value, found.state()[0][name]) for name, value in right.state()[0].items())


# --- capture ------------------------------------------------------------------------------------------------------


def stub(views):
    """A recorder without a GPU: what is replayed is the work itself, on the tensors that the graph would read."""
    recorded = []

    def record(work):
        kept = views.kept
        result = torch.zeros(views.arms)

        def replay():
            views.take(kept)
            result.copy_(work())
            recorded.append(views.number)

        return replay, result

    return record, recorded


def test_a_replayed_step_reads_new_inputs_and_is_the_step_itself(monkeypatch):
    specs = {name: SPECS[name] for name in "abegh"}
    made = {}

    class Keeping(Views):
        arms = len(specs)

        def take(self, ingredients):
            self.kept = ingredients
            super().take(ingredients)

    monkeypatch.setitem(globals(), "Views", Keeping)

    def captured(views):
        record, made["replayed"] = stub(views[0])
        return DeviceStepper(views[0].device, record)

    eager, _ = train(specs, monkeypatch, on_device)
    replayed, _ = train(specs, monkeypatch, captured)
    assert made["replayed"] == list(range(stepper.WARM, STEPS))
    for name in specs:
        assert all(torch.equal(value, replayed[name].student[k]) for k, value in eager[name].student.items())
        assert [p["train_loss"] for p in replayed[name].curve] == [p["train_loss"] for p in eager[name].curve]


def test_a_graph_that_the_driver_refuses_is_told_and_done_without(capsys):
    def refuse(work):
        raise RuntimeError("operation not permitted when stream is capturing")

    views = cohort_views()
    arms, taken = arms_of({"a": KD}, views), DeviceStepper(views.device, refuse)
    for step in range(STEPS):
        views.at(step)
        taken.step(arms)
    assert taken.read(due=True) and len(arms[0].losses) == arms[0].step == STEPS
    assert capsys.readouterr().err.count("kdlab: no CUDA graph: operation not permitted") == 1


def test_sam_that_moves_a_method_s_own_parts_steps_alone():
    views, sam = cohort_views(), Optimiser(rho=0.05)
    arms = arms_of({"a": KD.replace(optimiser=sam), "b": KD.replace(optimiser=sam, method="fitnet")}, views)
    assert [reasons.alone(arm) for arm in arms] == ["", "SAM moves the method's own parts too, and back"]


def test_what_cannot_be_captured_says_why():
    views = cohort_views()
    said = {}
    for name in ("kd", "ccd", "fitnet", "dist", "crd", "dkd", "tekap"):
        (arm,) = arms_of({name: KD.replace(method=name, augmentation="weak", ratio=0.0)}, views)
        given = arm.inputs()
        with Device() if name != "crd" else contextlib.nullcontext():
            said[name] = reasons.alone(arm) or reasons.eager(arm, *given)
    assert said["kd"] == said["ccd"] == said["fitnet"] == said["dist"] == ""
    assert said["crd"] == "it keeps a memory" and said["dkd"] == "it reads the batch's progress"
    assert said["tekap"] == "it asks the device for numbers (tolist)"
