"""A sparse dictionary of poses: a pose is the mean and a few atoms, their coefficients never negative."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from aign.framework.errors import UserError

POSES = 4000
"""At most so many poses are learnt from; more of them change nothing that can be measured."""
SPARSITY = 0.03
"""Weight of the coefficients' sum against half the squared distance, in units of a pose's typical size."""
ROUNDS = 30
STEPS = 30


@dataclass(frozen=True, kw_only=True)
class PoseDictionary:
    """A nonnegative sparse shape space of canonical poses: pose = mean + codes @ atoms, codes >= 0.

    Attributes:
        mean_m: the mean pose.
        atoms_m: deviations from it, each scaled by the mean of its coefficient over the learnt poses, so that
            coefficients are about exponentially distributed with mean 1 and one sparsity weight suits all.
    """

    mean_m: Float[Tensor, "17 3"]
    atoms_m: Float[Tensor, "k 17 3"]

    def pose_m(self, codes: Float[Tensor, "*b k"]) -> Float[Tensor, "*b 17 3"]:
        """The poses of coefficients."""
        return self.mean_m + torch.einsum("...k,kjd->...jd", codes, self.atoms_m)

    @cached_property
    def stiffness(self) -> float:
        """Largest eigenvalue of atoms^T atoms, metres^2: bounds how fast a squared distance changes with codes."""
        return _stiffness(self.atoms_m.flatten(1))


def thin(poses_m: Float[Tensor, "n 17 3"], most: int) -> Float[Tensor, "m 17 3"]:
    """All poses, or `most` of them, evenly."""
    return poses_m[torch.linspace(0, len(poses_m) - 1, min(most, len(poses_m))).round().long()]


def encode(
    targets: Float[Tensor, "n d"], atoms: Float[Tensor, "k d"], weight: float, codes: Float[Tensor, "n k"], steps: int
) -> Float[Tensor, "n k"]:
    """Coefficients c >= 0 of least |targets - c atoms|^2 / 2 + weight sum(c), from a start.

    Source: FISTA, Beck and Teboulle, SIAM J. Imaging Sciences 2009.
    """
    step = 1 / _stiffness(atoms)
    gram, pull = atoms @ atoms.T, targets @ atoms.T - weight
    ahead, momentum = codes, 1.0
    for _ in range(steps):
        new = (ahead - step * (ahead @ gram - pull)).clamp_min(0)
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / following * (new - codes)
        codes, momentum = new, following
    return codes


def learn_dictionary(canonical_m: Float[Tensor, "n 17 3"], atoms: int, seed: int = 0) -> PoseDictionary:
    """Alternate between coefficients (FISTA) and atoms (least squares); an atom nobody uses becomes the worst pose.

    Source: the dictionary of Zhou et al., "Sparse Representation for 3D Shape Estimation", whose coefficients are not
    negative; here over the mean pose, not instead of it. The same poses and seed give the same dictionary.

    Args:
        canonical_m: poses in the torso's frame, pelvis at the origin; thinned evenly to POSES.
        atoms: how many.
        seed: of the poses that are the first atoms.

    Raises:
        UserError: fewer poses than atoms, or no atom.
    """
    if not 1 <= atoms <= len(canonical_m):
        raise UserError(f"a dictionary of {len(canonical_m)} poses has 1 to {len(canonical_m)} atoms; got {atoms}")
    poses = thin(canonical_m, max(POSES, atoms))
    mean = poses.mean(0)
    size = (poses - mean).flatten(1).norm(dim=1).mean().clamp_min(1e-9)
    targets = (poses - mean).flatten(1) / size
    order = torch.randperm(len(poses), generator=torch.Generator().manual_seed(seed))
    book = _unit(targets[order[:atoms].to(poses.device)])
    codes = targets.new_zeros(len(targets), atoms)
    for _ in range(ROUNDS):
        codes = encode(targets, book, SPARSITY, codes, STEPS)
        book, codes = _renew(targets, codes)
    codes = encode(targets, book, SPARSITY, codes, STEPS)
    usual = codes.mean(0).clamp_min(1e-3)
    return PoseDictionary(mean_m=mean, atoms_m=(size * usual.unsqueeze(1) * book).reshape(-1, 17, 3))


def _renew(
    targets: Float[Tensor, "n d"], codes: Float[Tensor, "n k"]
) -> tuple[Float[Tensor, "k d"], Float[Tensor, "n k"]]:
    """The best unit atoms for the coefficients; coefficients follow the atoms' new lengths."""
    gram = codes.T @ codes
    ridge = 1e-4 * gram.diagonal().mean().clamp_min(1e-9) * torch.eye(len(gram)).to(gram)
    book = torch.linalg.solve(gram + ridge, codes.T @ targets)
    length = book.norm(dim=1)
    book, codes = _unit(book), codes * length
    idle = (codes == 0).all(0).nonzero()[:, 0]
    worst = (targets - codes @ book).norm(dim=1).topk(len(idle)).indices
    book[idle] = _unit(targets[worst])
    return book, codes


def _unit(rows: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
    """Rows of length 1; a row of zeros stays."""
    return torch.nn.functional.normalize(rows, dim=1, eps=1e-9)


def _stiffness(atoms: Float[Tensor, "k d"]) -> float:
    return float(torch.linalg.matrix_norm(atoms.double(), 2).square().clamp_min(1e-12))
