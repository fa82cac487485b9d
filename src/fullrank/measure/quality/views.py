"""Scores that need several views of each image: alignment and LiDAR.

Legend: z_ia: features of view a of image i, (D,); N images, q views of each; u_ia = z_ia / ||z_ia||.

Both take `(N, q, D)` with q >= 2, or a sequence of q matrices `(N, D)` whose rows belong together.

Raises:
    FullrankError: Views are of unequal shape, fewer than two, or not finite.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fullrank.errors import FullrankError
from fullrank.measure.checks import Array, as_tensor, check_directions, check_finite
from fullrank.numerics import centered, exact_arithmetic, l2_normalize
from fullrank.shapes import fit

Views = Array | Sequence[Array]

__all__ = ["alignment", "lidar"]


@exact_arithmetic()
def alignment(views: Views) -> float:
    """Return the mean of ||u_ia - u_ib||^2 over images i and pairs of their views a < b.

    Lower is better, jointly with uniformity: complete collapse has perfect alignment. Range [0, 4] for two
    views, [0, 2q/(q-1)] for q; 2 for independent directions. No row may be all zero.

    Reference: Wang, Isola 2020, eq. 1 with alpha = 2, https://arxiv.org/abs/2005.10242

    >>> alignment([torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.0, 3.0], [0.0, 1.0]])])
    1.0
    """
    z = _as_views(views, "alignment")
    q, d = z.shape[1:]
    check_directions(z.reshape(-1, d))
    u = l2_normalize(z, dim=-1)
    # The mean over pairs is 2/(q-1) times the sum of squared distances from the mean view.
    return float(2 / (q - 1) * ((u - u.mean(dim=1, keepdim=True)) ** 2).sum(dim=(1, 2)).mean())


@exact_arithmetic()
def lidar(views: Views, *, delta: float = 1e-4) -> float:
    """Return LiDAR, exp(-sum_k p_k log p_k), p = l / sum l, over the eigenvalues l of S_w^-1/2 S_b S_w^-1/2.

    S_b is the covariance of the images' mean features (divided by N - 1), S_w the covariance of views around
    their image's mean (divided by N (q - 1)) plus delta I: linear discriminant analysis with each image as a
    class. Higher is better. Range [1, min(N - 1, D)]; 0 when all images have one mean. It counts the
    directions that tell images apart, measured in units of what augmentation moves.

    Fails: where images differ by noise alone, S_b is S_w / q, equal in all directions, and the score is near its top.
    The views must be the pre-training augmentations, and N and q are free: the paper takes about 1000 images with 50
    views, ports 100 with 10, and no two such numbers compare. `delta` (not negative) is absolute, so features of a
    small scale are judged by it and not by S_w, which needs N (q - 1) several times D. The published p_k = l_k / sum l
    + eps keeps log(0) away; here 0 log 0 = 0. A port that runs PCA on the matrix S_w^-1/2 S_b S_w^-1/2 has centered it
    and squared its spectrum: another quantity.

    Reference: Thilak et al. 2023, section 4, https://arxiv.org/abs/2312.04000
    """
    if not fit(delta, float, "delta") >= 0:
        raise FullrankError(f"delta must not be negative, got {delta}: the paper uses 1e-4")
    z = _as_views(views, "lidar")
    n, q, d = z.shape
    if n < 2:
        raise FullrankError("lidar needs views of at least two images, got one: it compares images")
    within = centered(z, dim=1).reshape(-1, d)
    s_w = within.T @ within / (n * (q - 1)) + delta * torch.eye(d, dtype=z.dtype, device=z.device)
    factor, failed = torch.linalg.cholesky_ex(s_w)
    # Rounding alone can make a matrix that has no inverse look as if it had one.
    lost = factor.diagonal().square().min() <= d * torch.finfo(z.dtype).eps * s_w.diagonal().max()
    if int(failed) != 0 or bool(lost):
        few = f"it has {n * (q - 1)} differences of views for {d} dimensions; raise delta, or give more images or views"
        raise FullrankError(f"the within-image covariance cannot be inverted with delta={delta}: {few}")
    between = centered(z.mean(dim=1))
    # With S_w = L L^T, the singular values of L^-1 B^T are the roots of the eigenvalues, times sqrt(N - 1).
    roots = torch.linalg.svdvals(torch.linalg.solve_triangular(factor, between.T, upper=False))
    if roots[0] == 0:
        return 0.0
    p = (roots / roots[0]) ** 2
    return float(torch.special.entr(p / p.sum()).sum().exp())


def _as_views(views: Views, score: str) -> Tensor:
    if isinstance(views, (list, tuple)) and (not views or any(hasattr(view, "shape") for view in views)):
        parts = [as_tensor(view, "matrices of numbers (N, D), one for each view") for view in views]
        shapes = [tuple(part.shape) for part in parts]
        if len(set(shapes)) > 1 or any(len(shape) != 2 for shape in shapes):
            raise FullrankError(f"{score} needs matrices (N, D) of equal shape, row i of each one image, got {shapes}")
        z = torch.stack([part.to(torch.float64) for part in parts], dim=1) if parts else torch.empty(0, 0, 0)
    else:
        z = as_tensor(views, "views of numbers (N, q, D)")
    got = f"got shape {tuple(z.shape)}"
    if z.ndim != 3:
        wanted = "views (N, q, D), or a list of q matrices (N, D)"
        raise FullrankError(f"{score} needs {wanted}, {got}: a single matrix has no views")
    if z.numel() == 0 or z.shape[1] < 2:
        raise FullrankError(f"{score} needs at least two views of one image, {got} as (images, views, dimensions)")
    check_finite(z.reshape(-1, z.shape[2]))
    return z.to(torch.float64)
