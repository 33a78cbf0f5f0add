"""What a store knows of its faces, a row a picture, whatever attributes each data set in it has."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from aign.data.store import Selection, Store
from aign.data.store.reader import Columns

COLUMNS: Columns = {"faces": ("attributes", "attribute_names", "identity", "partition", "face_size_px")}


@dataclass(frozen=True, kw_only=True)
class FaceLabels:
    """Labels of n pictures in the order of the store.

    Attributes:
        names: of all attributes that any of them has.
        attributes: NaN where unknown, or where the picture's data set has no such attribute.
        identity: whose face; -1 where unknown.
        partition: train, val, test, or all.
        sequence: of the picture.
        number: the picture's place in its data set: with the sequence, its key.
        size_px: width and height.
    """

    names: tuple[str, ...]
    attributes: Float[np.ndarray, "n k"]
    identity: Int[np.ndarray, " n"]
    partition: Shaped[np.ndarray, " n"]
    sequence: Shaped[np.ndarray, " n"]
    number: Int[np.ndarray, " n"]
    size_px: Int[np.ndarray, "n 2"]


def read_labels(store: Store, selection: Selection | None = None) -> FaceLabels:
    """Labels of the selected pictures.

    Raises:
        UserError: the store has no faces, or nothing is selected.
    """
    clips = store.read(COLUMNS, selection)
    worded = [str(words) for words in clips.arrays["attribute_names"]]
    names = tuple(dict.fromkeys(name for words in dict.fromkeys(worded) for name in words.split()))
    places = {words: [names.index(name) for name in words.split()] for words in dict.fromkeys(worded)}
    values = np.full((len(worded), len(names)), np.nan, np.float32)
    starts = np.cumsum(clips.counts["attributes"]) - clips.counts["attributes"]
    given = clips.arrays["attributes"].reshape(-1)
    for row, (words, start) in enumerate(zip(worded, starts, strict=True)):
        values[row, places[words]] = given[start : start + len(places[words])]
    return FaceLabels(
        names=names,
        attributes=values,
        identity=np.asarray(clips.arrays["identity"]).reshape(-1),
        partition=np.asarray(clips.arrays["partition"]),
        sequence=np.array([key.sequence for key in clips.keys]),
        number=np.array([key.frame_start for key in clips.keys]),
        size_px=clips.arrays["face_size_px"],
    )
