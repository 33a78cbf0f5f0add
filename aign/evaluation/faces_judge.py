"""Judges of faces: what they read in pictures, and how good they are at it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, Shaped, UInt8
from scipy.stats import rankdata

from aign.evaluation.faces_net import PARTS

PAIRS = 4000
"""Of pictures, at most, that tell how well identities are told apart."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a judge reads in n pictures.

    Attributes:
        values: of its attributes: -1..1 where it is a sign, else in the attribute's own unit.
        features: of its last layer but one, for FID and KID.
        embedding: of identity, unit vectors; None: it knows none.
        parts: labels at its own size; None: it knows none.
    """

    values: Float32[np.ndarray, "n k"]
    features: Float32[np.ndarray, "n d"]
    embedding: Float32[np.ndarray, "n e"] | None = None
    parts: UInt8[np.ndarray, "n s s"] | None = None


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A network that reads faces.

    Attributes:
        name: what it is and on what it was trained, for reports.
        names: attributes, in order.
        is_sign: of each, whether it is +1 or -1.
        scale: of each, its standard deviation in the domain: the unit of drift.
        read: pictures of any square size -> what it reads.
        facts: how good it is on held-out pictures.
        identities: that it knows by number.
        gallery: a unit vector of each.
    """

    name: str
    names: tuple[str, ...]
    is_sign: tuple[bool, ...]
    scale: Float32[np.ndarray, " k"]
    read: Callable[[UInt8[np.ndarray, "n s s 3"]], Reading]
    facts: Mapping[str, float]
    identities: tuple[int, ...] = ()
    gallery: Float32[np.ndarray, "m e"] | None = None


@dataclass(frozen=True, kw_only=True)
class LabelledFaces:
    """Pictures with labels to train a judge on.

    Attributes:
        images: square, all of one size.
        names: attributes, in order.
        attributes: NaN: not known.
        identity: -1: not known.
        partition: "train", "val", "test", or "all" where none is known.
        parts: labels of parts, of the pictures' size.
    """

    images: UInt8[np.ndarray, "n s s 3"]
    names: tuple[str, ...]
    attributes: Float32[np.ndarray, "n k"]
    identity: Int[np.ndarray, " n"]
    partition: Shaped[np.ndarray, " n"]
    parts: UInt8[np.ndarray, "n s s"] | None = None


def attribute_facts(
    names: tuple[str, ...],
    is_sign: tuple[bool, ...],
    read: Float32[np.ndarray, "n k"],
    true: Float32[np.ndarray, "n k"],
) -> dict[str, float]:
    """Of each attribute, where it is known: the accuracy of a sign, of a number the correlation and the mean error.

    The accuracy is balanced, a mean over the signs that are there: always saying the more frequent one is 0.5.
    """
    facts: dict[str, float] = {}
    for name, sign, said, label in zip(names, is_sign, read.T, true.T, strict=True):
        there = ~np.isnan(label)
        if not there.any():
            continue
        mine, real = said[there].astype(np.float64), label[there].astype(np.float64)
        if sign:
            facts[f"{name}_accuracy"] = float(
                np.mean([((mine > 0) == (real > 0))[real == s].mean() for s in np.unique(real)])
            )
            continue
        facts[f"{name}_mae"] = float(np.abs(mine - real).mean())
        if len(mine) > 2 and mine.std() > 0 and real.std() > 0:
            facts[f"{name}_r"] = float(np.corrcoef(mine, real)[0, 1])
    return facts


def identity_facts(embedding: Float32[np.ndarray, "n e"] | None, identity: Int[np.ndarray, " n"]) -> dict[str, float]:
    """How well people that were never seen are told apart: the mean cosine distances, and the area under the ROC."""
    if embedding is None:
        return {}
    rows = np.flatnonzero(identity >= 0)
    one, other = (rows[i] for i in np.triu_indices(len(rows), 1))
    same = identity[one] == identity[other]
    few = np.random.default_rng(0).permutation(np.flatnonzero(~same))[:PAIRS]
    chosen = np.concatenate((np.flatnonzero(same)[:PAIRS], few))
    if not same.any() or not len(few):
        return {}
    distance = 1 - (embedding[one[chosen]] * embedding[other[chosen]]).sum(1).astype(np.float64)
    alike = same[chosen]
    rank, count = rankdata(distance), int(alike.sum())
    below = (rank[~alike].sum() - len(few) * (len(few) + 1) / 2) / (count * len(few))
    return {
        "identity_auc": float(below),
        "identity_distance_same": float(distance[alike].mean()),
        "identity_distance_other": float(distance[~alike].mean()),
    }


def parts_facts(read: UInt8[np.ndarray, "n s s"], true: UInt8[np.ndarray, "n s s"]) -> dict[str, float]:
    """Overlap (IoU) of each part over all pictures, and its area as read by its true area."""
    facts: dict[str, float] = {}
    for label, name in enumerate(PARTS, 1):
        mine, real = read == label, true == label
        if real.any():
            facts[f"{name}_iou"] = float((mine & real).sum() / (mine | real).sum())
            facts[f"{name}_area_ratio"] = float(mine.sum() / real.sum())
    return facts


def nearest_identity(judge: Judge, reading: Reading) -> Int[np.ndarray, " n"]:
    """Whom of the judge's gallery each picture is most like; -1 where the judge knows nobody."""
    if judge.gallery is None or reading.embedding is None:
        return np.full(len(reading.values), -1)
    return np.asarray(np.array(judge.identities)[(reading.embedding @ judge.gallery.T).argmax(1)])
