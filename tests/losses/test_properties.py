"""What the losses' docstrings say beside the formula, and their refusals."""

import inspect
import itertools
import math
import re

import pytest
import torch
from naive_losses import CASES, embeddings

from fullrank import losses
from fullrank.errors import FullrankError

TWO_VIEWS = [getattr(losses, name) for name in dict.fromkeys(name.split(",")[0] for name in CASES)]
TWO_VIEWS = [loss for loss in TWO_VIEWS if not loss.__name__.endswith("_contrastive")] + [losses.spectral_contrastive]


@pytest.mark.parametrize("loss", TWO_VIEWS, ids=lambda loss: loss.__name__)
def test_losses_are_symmetric_in_the_views_and_do_not_see_the_order_of_images(loss):
    z1, z2 = embeddings(9, 6)
    shuffled = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss(z2, z1), loss(z1, z2))
    torch.testing.assert_close(loss(z1[shuffled], z2[shuffled]), loss(z1, z2))


def test_byol_is_four_plus_four_simsiam():
    tensors = embeddings(5, 4, count=4)
    torch.testing.assert_close(losses.byol(*tensors), 4 + 4 * losses.simsiam(*tensors))


def test_byols_target_gets_no_gradient():
    z1, z2, p1, p2 = embeddings(5, 4, count=4)
    losses.byol(z1, z2, p1, p2).backward()
    assert z1.grad is None
    assert z2.grad is None
    assert p1.grad.norm() > 0
    assert p2.grad.norm() > 0


@pytest.mark.parametrize("name", ["info_nce", "simclr_sq", "simclr_abs", "dcl", "dcl_sq", "dcl_abs", "tcr"])
def test_losses_of_directions_do_not_see_the_length_of_a_row(name):
    z1, z2 = embeddings(7, 5)
    lengths = torch.linspace(0.1, 9, 7, dtype=torch.float64)[:, None]
    loss = getattr(losses, name)
    torch.testing.assert_close(loss(lengths * z1, z2), loss(z1, z2))


@pytest.mark.parametrize("name", ["info_nce", "simclr_abs", "dcl_sq", "spectral_contrastive", "tcr"])
def test_sample_contrastive_losses_and_tcr_do_not_see_a_rotation(name):
    z1, z2 = embeddings(7, 5)
    rotation = torch.linalg.qr(embeddings(5, 5, seed=3)[0].detach()).Q
    loss = getattr(losses, name)
    torch.testing.assert_close(loss(z1 @ rotation, z2 @ rotation), loss(z1, z2))


def test_squares_and_absolute_values_are_best_at_orthogonality_and_cosines_beyond_it():
    basis, half = torch.eye(4, dtype=torch.float64), torch.eye(2, 4, dtype=torch.float64)
    orthogonal, opposite = basis, torch.cat([half, -half])
    for name in ("simclr_sq", "simclr_abs", "dcl_sq", "dcl_abs"):
        loss = getattr(losses, name)
        assert loss(orthogonal, orthogonal) < loss(opposite, opposite)
    assert losses.dcl(opposite, opposite, temperature=1.0) < losses.dcl(orthogonal, orthogonal, temperature=1.0)


def test_only_negatives_are_squared():
    """Opposite views would be as good as equal ones, were positives squared as well."""
    z = torch.eye(3, dtype=torch.float64)
    for name in ("simclr_sq", "simclr_abs", "dcl_sq", "dcl_abs"):
        assert getattr(losses, name)(z, -z) > getattr(losses, name)(z, z) + 1


def test_values_at_a_complete_collapse():
    z = torch.full((6, 4), 0.7, dtype=torch.float64)
    for loss, value in {
        losses.info_nce: math.log(11),
        losses.simclr_sq: math.log(11),
        losses.dcl: math.log(10),
        losses.vicreg: 25 * (1 - 1e-2),
        losses.vicreg_exp: 25 * (1 - 1e-2) + 10 * 2 * math.log(3),
        losses.vicreg_ctr: 25 * (1 - 1e-2) + 2.5 * 2 * math.log(5),
        losses.barlow_twins: 4.0,
        losses.tcr: -200 - math.log(1 + 4 / 0.2) / 2,
    }.items():
        assert loss(z, z).item() == pytest.approx(value, rel=1e-12), loss.__name__
    assert losses.info_nce(z, z, negatives="cross").item() == pytest.approx(math.log(6), rel=1e-12)


def test_tcr_reaches_the_bound_of_its_docstring_at_whitened_embeddings():
    for n, m in ((3, 5), (6, 3)):
        z = (
            torch.eye(max(n, m), dtype=torch.float64)[:n, :m]
            if n < m
            else torch.eye(m, dtype=torch.float64).repeat(2, 1)
        )
        r = min(n, m)
        bound = -200 - r / 2 * math.log(1 + m / (r * 0.2))
        assert losses.tcr(z, z).item() == pytest.approx(bound, rel=1e-12)
        assert losses.tcr(*embeddings(n, m)).item() > bound


def test_conventions_of_others_are_the_settings_the_docstring_gives():
    z1, z2 = (z.detach() for z in embeddings(8, 3))
    inv = ((z1 - z2) ** 2).sum()
    hinge = sum(torch.relu(1 - (z.var(dim=0) + 1e-4).sqrt()).mean() for z in (z1, z2))
    cov = sum((torch.cov(z.T).fill_diagonal_(0) ** 2).sum() / 3 for z in (z1, z2))
    garrido = 0.5 * inv + 2 * hinge + 3 * cov
    torch.testing.assert_close(losses.vicreg(z1, z2, invariance=0.5 * 8 * 3, variance=2 * 2, covariance=3), garrido)
    bardes = 0.5 * inv / 8
    torch.testing.assert_close(losses.vicreg(z1, z2, invariance=0.5 * 3, variance=0, covariance=0), bardes)


def test_weights_may_be_tensors_that_learn():
    temperature = torch.tensor(0.2, requires_grad=True)
    losses.info_nce(*embeddings(4, 3), temperature=temperature).backward()
    assert temperature.grad.abs() > 0


@pytest.mark.parametrize("loss", TWO_VIEWS, ids=lambda loss: loss.__name__)
def test_two_view_losses_refuse_other_shapes_and_integers(loss):
    z = torch.ones(4, 3)
    with pytest.raises(FullrankError, match=r"z1 and z2 must have one shape \(N, M\), got \(4, 3\), \(4, 2\)"):
        loss(z, z[:, :2])
    with pytest.raises(FullrankError, match=r"one shape \(N, M\), got \(3,\), \(3,\)"):
        loss(z[0], z[0])
    with pytest.raises(FullrankError, match=r"z1 must hold real floating-point numbers, got torch.int64: call .float"):
        loss(z.long(), z)
    with pytest.raises(FullrankError, match=r"z2 must be a tensor \(N, M\), got list"):
        loss(z, z.tolist())
    with pytest.raises(FullrankError, match="needs at least 1 row, got shape|needs at least 2 rows, got shape"):
        loss(z[:0], z[:0])


UNFIT = {
    "sparse": (lambda z: z.to_sparse(), r"must be dense, got layout torch.sparse_coo: call .to_dense\(\)"),
    "quantized": (lambda z: torch.quantize_per_tensor(z, 0.1, 0, torch.qint8), "got torch.qint8: call"),
    "float8": (lambda z: z.to(torch.float8_e4m3fn), "got torch.float8_e4m3fn: call"),
    "complex": (lambda z: z.to(torch.complex64), "got torch.complex64: call"),
    "bool": (lambda z: z.bool(), "got torch.bool: call"),
    "numpy": (lambda z: z.numpy(), r"must be a tensor \(N, M\), got ndarray: use torch.as_tensor"),
    "masked": (lambda z: torch.masked.masked_tensor(z, z > 0), r"must be a tensor \(N, M\), got MaskedTensor"),
}


@pytest.mark.filterwarnings("ignore:.*masked:UserWarning", "ignore:.*quantiz")
@pytest.mark.parametrize("kind", UNFIT)
@pytest.mark.parametrize("loss", [*TWO_VIEWS, losses.dimension_contrastive], ids=lambda loss: loss.__name__)
def test_tensors_that_are_no_real_matrices(loss, kind):
    make, message = UNFIT[kind]
    z = torch.ones(4, 3)
    with pytest.raises(FullrankError, match=message):
        loss(make(z)) if loss is losses.dimension_contrastive else loss(z, make(z))


@pytest.mark.parametrize("name", sorted({loss.__name__ for loss in TWO_VIEWS} - {"tcr"}))
def test_two_rows_at_least(name):
    over = name in ("vicreg", "vicreg_exp", "barlow_twins")
    why = "its variances are over the images of a batch" if over else "it tells an image from the others of its batch"
    with pytest.raises(
        FullrankError, match=rf"{name} needs at least 2 rows, got shape \(1, 3\): {why}; drop_last=True of a DataLoader"
    ):
        getattr(losses, name)(torch.ones(1, 3), torch.ones(1, 3))
    if name == "info_nce":
        with pytest.raises(FullrankError, match="2 rows"):
            losses.info_nce(torch.ones(1, 3), torch.ones(1, 3), negatives="cross")


@pytest.mark.parametrize("name", ["vicreg", "vicreg_exp", "vicreg_ctr", "barlow_twins"])
def test_two_columns_at_least(name):
    why = "its variances are over the dim" if name == "vicreg_ctr" else "it keeps dimensions apart, and one is alone"
    with pytest.raises(FullrankError, match=rf"{name} needs at least 2 columns, got shape \(4, 1\): {why}"):
        getattr(losses, name)(torch.ones(4, 1), torch.ones(4, 1))


@pytest.mark.parametrize(("name", "rows"), [("simsiam", "1 row"), ("byol", "1 row"), ("mocov3", "2 rows")])
def test_asymmetric_losses_refuse_integers_and_too_little(name, rows):
    z = torch.ones(4, 3)
    with pytest.raises(FullrankError, match="p2 must hold real floating-point numbers, got torch.int32"):
        getattr(losses, name)(z, z, z, z.int())
    with pytest.raises(FullrankError, match=rf"{name} needs at least {rows}, got shape \(0, 3\)"):
        getattr(losses, name)(*[z[:0]] * 4)


@pytest.mark.parametrize("value", [0, -0.1, float("nan"), float("inf"), "0.1", None, torch.ones(2)], ids=str)
@pytest.mark.parametrize(
    ("name", "keyword"),
    [
        *((name, "temperature") for name in ("info_nce", "simclr_sq", "simclr_abs", "dcl", "dcl_sq", "dcl_abs")),
        ("vicreg_exp", "temperature"),
        ("vicreg_ctr", "temperature"),
        ("spectral_contrastive", "mu"),
        *((name, "eps") for name in ("vicreg", "vicreg_exp", "vicreg_ctr", "barlow_twins", "tcr")),
    ],
)
def test_what_must_be_positive(name, keyword, value):
    z = torch.ones(4, 3)
    with pytest.raises(
        FullrankError, match=f"{keyword} must be a positive finite number, got {re.escape(repr(value))}"
    ):
        getattr(losses, name)(z, z, **{keyword: value})


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), "25", None, torch.ones(2)], ids=str)
@pytest.mark.parametrize(
    ("name", "keyword"),
    [
        *itertools.product(("vicreg", "vicreg_exp", "vicreg_ctr"), ("invariance", "variance", "covariance")),
        ("barlow_twins", "lambd"),
        ("tcr", "invariance"),
    ],
)
def test_weights_are_finite_numbers(name, keyword, value):
    z = torch.ones(4, 3)
    with pytest.raises(FullrankError, match=f"{keyword} must be a finite number, got {re.escape(repr(value))}"):
        getattr(losses, name)(z, z, **{keyword: value})


@pytest.mark.parametrize("loss", [*TWO_VIEWS, losses.mocov3], ids=lambda loss: loss.__name__)
def test_a_learned_setting_of_one_element_leaves_the_loss_a_scalar(loss):
    signature = inspect.signature(loss).parameters.values()
    defaults = {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY and isinstance(p.default, float)}
    views = [torch.randn(4, 3, dtype=torch.float64) for p in signature if p.kind is not p.KEYWORD_ONLY]
    learned = {key: torch.full((1,), value, dtype=torch.float64, requires_grad=True) for key, value in defaults.items()}
    found = loss(*views, **learned)
    torch.testing.assert_close(found, loss(*views, **defaults))
    if learned:
        found.backward()
        assert all(value.grad.shape == (1,) for value in learned.values())


def test_misspelt_options():
    z = torch.ones(4, 3)
    with pytest.raises(FullrankError, match="negatives must be one of both, cross, got 'cros'; did you mean 'cross'?"):
        losses.info_nce(z, z, negatives="cros")
    with pytest.raises(FullrankError, match="temperature must be a positive finite number, got 0"):
        losses.info_nce(z, z, negatives="cross", temperature=0)
    with pytest.raises(FullrankError, match="center must be one of dimensions, embeddings, got 'dims'"):
        losses.vicreg_ctr(z, z, center="dims")
    with pytest.raises(FullrankError, match="toward must be one of mean, view, got 'views'; did you mean 'view'?"):
        losses.tcr(z, z, toward="views")
