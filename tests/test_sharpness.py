"""Sharpness against quadratics of known spectrum, the dense Hessian of a tiny net in float64, and invariants."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlab.errors import SpecError
from kdlab.metrics import neighbourhood, sharpness
from kdlab.metrics.sharpness import Objective
from kdlab.models import build

DRAW = torch.Generator().manual_seed(0)
SPECTRUM = torch.tensor([-1.5, 0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 7.0], dtype=torch.float64)


def normal(*shape):
    return torch.randn(*shape, generator=DRAW, dtype=torch.float64)


TURN = torch.linalg.qr(normal(8, 8)).Q
MATRIX = TURN @ torch.diag(SPECTRUM) @ TURN.T


def quadratic(matrix=MATRIX, slope=None, shards=1):
    """``w . A w / 2 + b . w`` of two tensors of weights, as shards of which the mean is that."""
    weights = [normal(2, 3).requires_grad_(), normal(2).requires_grad_()]
    slope = torch.zeros(8, dtype=torch.float64) if slope is None else slope

    def shard(number):
        def value():
            w = torch.cat([p.reshape(-1) for p in weights])
            return (1 + number) * 2 / (1 + shards) * (w @ matrix @ w / 2 + slope @ w)

        return value

    return Objective(weights, [shard(number) for number in range(shards)])


def flat(parameters):
    return torch.cat([p.detach().reshape(-1) for p in parameters])


@pytest.fixture(scope="module")
def net():
    """A small smooth net, its images and labels, the objective and its Hessian, dense, by torch.autograd.functional."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2), nn.BatchNorm2d(3), nn.Softplus(), nn.Flatten(), nn.Linear(3, 5), nn.Tanh(),
        nn.Linear(5, 2, bias=False),
    ).double()  # fmt: skip
    x, labels = normal(12, 1, 4, 4), torch.arange(12) % 2
    model.train()(x)
    model.eval()
    objective = Objective.of(model, x, sharpness.cross_entropy(labels), size=4)
    names = dict(model.named_parameters())

    def loss(vector):
        parts = vector.split([p.numel() for p in names.values()])
        at = {name: part.view(p.shape) for (name, p), part in zip(names.items(), parts, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, at, x), labels)

    dense = torch.autograd.functional.hessian(loss, flat(names.values()))
    return model, objective, dense, x, labels


# ---- quadratics ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 3])
def test_a_quadratics_spectrum_is_found(shards):
    objective, v = quadratic(shards=shards), normal(8)
    assert torch.allclose(sharpness.hessian_product(objective, v), MATRIX @ v, rtol=1e-12)
    found = sharpness.largest_eigenvalue(objective, tolerance=1e-10)
    assert found.value == pytest.approx(7, abs=1e-9) and found.residual < 1e-8
    assert abs(found.vector @ TURN[:, -1].numpy()) == pytest.approx(1, abs=1e-9)
    scale = flat(objective.parameters).abs()
    scaled = sharpness.largest_eigenvalue(objective, adaptive=True, tolerance=1e-10)
    assert scaled.value == pytest.approx(torch.linalg.eigvalsh(scale[:, None] * MATRIX * scale)[-1].item(), abs=1e-9)


def test_hutchinson_is_exact_on_a_diagonal_and_tells_its_error_elsewhere():
    exact = sharpness.trace(quadratic(torch.diag(SPECTRUM)), probes=3)
    assert exact.value == pytest.approx(SPECTRUM.sum().item(), abs=1e-12) and exact.error < 1e-12
    found = sharpness.trace(quadratic(), probes=400, seed=1)
    off = MATRIX - torch.diag(MATRIX.diag())
    assert abs(found.value - SPECTRUM.sum().item()) < 4 * found.error
    assert found.error == pytest.approx((2 * (off**2).sum() / 400).sqrt().item(), rel=0.2)
    assert found == sharpness.trace(quadratic(), probes=400, seed=1) != sharpness.trace(quadratic(), probes=400)


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_rise_on_a_quadratic_is_its_taylor_series(adaptive):
    slope = normal(8)
    objective = quadratic(slope=slope)
    w = flat(objective.parameters)
    unit = w.abs() if adaptive else torch.ones(8, dtype=torch.float64)
    g = MATRIX @ w + slope
    step = 0.3 * unit**2 * g / (unit * g).norm()
    assert (step / unit).norm().item() == pytest.approx(0.3)
    rise = (g @ step + step @ MATRIX @ step / 2).item()
    assert neighbourhood.m_sharpness(objective, 0.3, adaptive=adaptive) == pytest.approx(rise, abs=1e-12)
    expected = 0.2**2 / 2 * (unit**2 * MATRIX.diag()).sum().item()
    average = neighbourhood.average_sharpness(objective, 0.2, adaptive=adaptive, draws=300)
    assert abs(average.value - expected) < 4 * average.error and average.error < abs(expected)
    assert torch.equal(flat(objective.parameters), w)


def test_no_direction_of_the_radius_rises_more_where_the_loss_is_linear():
    g, units = [normal(3, 2), normal(2)], [normal(3, 2).abs() + 0.1, 2.0]
    best = sharpness.ascent(g, 0.5, units)
    rise = sum((a * b).sum() for a, b in zip(g, best, strict=True))
    for _ in range(50):
        other = [normal(3, 2), normal(2)]
        length = torch.cat([o.reshape(-1) for o in other]).norm()
        assert sum((a * u * o).sum() for a, u, o in zip(g, units, other, strict=True)) * 0.5 / length <= rise
    assert all((part == 0).all() for part in sharpness.ascent([torch.zeros(3)], 0.5, [1.0]))


def test_slices_of_a_quadratic():
    objective, at = quadratic(), [-1.0, 0.0, 0.5]
    ways = [neighbourhood.filter_direction(objective.parameters, seed) for seed in (0, 1)]
    w, d, e = flat(objective.parameters), flat(ways[0]), flat(ways[1])
    value = lambda v: (v @ MATRIX @ v / 2).item()  # noqa: E731
    assert neighbourhood.loss_slice(objective, ways[:1], at) == pytest.approx([value(w + a * d) for a in at])
    plane = [[value(w + a * d + b * e) for b in at] for a in at]
    assert neighbourhood.loss_slice(objective, ways, at) == pytest.approx(np.array(plane))
    assert torch.equal(flat(objective.parameters), w) and not torch.equal(d, e)
    with pytest.raises(SpecError, match="one or two, but got 3"):
        neighbourhood.loss_slice(objective, [*ways, ways[0]], at)


# ---- a tiny net ------------------------------------------------------------------------------------------------------


def test_curvature_is_that_of_the_dense_hessian(net):
    _, objective, dense, _, _ = net
    v = normal(len(dense))
    assert torch.allclose(sharpness.hessian_product(objective, v), dense @ v, rtol=1e-9, atol=1e-12)
    values = torch.linalg.eigvalsh(dense)
    found = sharpness.largest_eigenvalue(objective, tolerance=1e-9)
    assert found.value == pytest.approx(values[-1].item(), rel=1e-8) and found.residual < 1e-6
    guess = sharpness.largest_eigenvalue(objective, tolerance=0.1)
    assert abs(guess.value - values[-1].item()) <= guess.residual + 1e-12  # as the residual promises
    traced = sharpness.trace(objective, probes=200)
    assert abs(traced.value - dense.trace().item()) < 4 * traced.error
    unit = flat(objective.parameters).abs()
    assert torch.allclose(sharpness.hessian_product(objective, v, adaptive=True), unit * (dense @ (unit * v)))


def test_single_precision_is_enough_for_a_network_of_the_house():
    model, x, labels = (
        build("resnet8_s2_w4", 10, 1, seed=0).eval(),
        normal(24, 1, 28, 28).float(),
        torch.arange(24) % 10,
    )
    double = Objective.of(copy.deepcopy(model).double(), x.double(), sharpness.cross_entropy(labels), size=12)
    single = Objective.of(model, x, sharpness.cross_entropy(labels), size=12)
    for adaptive in (False, True):
        pair = [sharpness.largest_eigenvalue(o, adaptive=adaptive) for o in (single, double)]
        assert pair[0].value == pytest.approx(pair[1].value, rel=2e-3) and pair[0].residual < 0.05 * pair[0].value
        traces = [sharpness.trace(o, adaptive=adaptive, probes=4).value for o in (single, double)]
        assert traces[0] == pytest.approx(traces[1], rel=1e-3)


def test_losses_are_those_of_the_paper(net):
    model, objective, _, x, labels = net
    said = normal(12, 2)
    assert objective.value() == pytest.approx(F.cross_entropy(model(x), labels).item(), abs=1e-12)
    p, q = F.softmax(said / 3, 1), F.softmax(model(x) / 3, 1)
    by_hand = 9 * (p * (p / q).log()).sum(1).mean().item()
    assert Objective.of(model, x, sharpness.distillation(said, 3.0), 6).value() == pytest.approx(by_hand, abs=1e-12)


def test_adaptive_sharpness_does_not_see_scale_moved_between_layers():
    x, labels = normal(16, 4), torch.arange(16) % 3
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double().eval()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight.mul_(5), other[0].bias.mul_(5), other[2].weight.div_(5)
    both = [Objective.of(m, x, sharpness.cross_entropy(labels), size=8) for m in (model, other)]
    assert both[0].value() == pytest.approx(both[1].value())
    for measure in (
        lambda o, a: sharpness.largest_eigenvalue(o, adaptive=a, tolerance=1e-9).value,
        lambda o, a: sharpness.trace(o, adaptive=a).value,
        lambda o, a: neighbourhood.m_sharpness(o, 0.1, adaptive=a),
        lambda o, a: neighbourhood.average_sharpness(o, 0.1, adaptive=a).value,
    ):
        first, second = (measure(o, True) for o in both)
        assert first == pytest.approx(second, rel=1e-6)
        first, second = (measure(o, False) for o in both)
        assert first != pytest.approx(second, rel=0.05)
    ways = [neighbourhood.filter_direction(o.parameters, 3) for o in both]
    curves = [neighbourhood.loss_slice(o, [way], [-0.5, 1.0]) for o, way in zip(both, ways, strict=True)]
    assert curves[0] == pytest.approx(curves[1])  # so are filter-normalised slices


def test_filters_keep_their_lengths_and_the_rest_its_place(net):
    model = net[0]
    for d, p in zip(neighbourhood.filter_direction(list(model.parameters())), model.parameters(), strict=True):
        if p.ndim < 2:
            assert not d.any()
        else:
            assert torch.allclose(d.flatten(1).norm(dim=1), p.flatten(1).norm(dim=1))


def test_what_cannot_be_measured_is_said(net):
    model, _, _, x, labels = net
    loss, training = sharpness.cross_entropy(labels), copy.deepcopy(model).train()
    for make, said in (
        (lambda: Objective.of(training, x, loss), "eval mode, but the model is in training mode"),
        (lambda: Objective.of(copy.deepcopy(model).requires_grad_(False), x, loss), "weights with a gradient"),
        (lambda: Objective.of(model, x, loss, size=5), "size must divide the 12 images, but got 5"),
        (lambda: sharpness.largest_eigenvalue(Objective.of(model, x * float("nan"), loss, 4)), "not finite"),
        (lambda: sharpness.trace(net[1], probes=1), "probes must be an integer of at least 2"),
        (lambda: neighbourhood.m_sharpness(net[1], 0), "rho must be a positive"),
    ):
        with pytest.raises(SpecError, match=said):
            make()
