"""Trained judges as files, nothing in them that runs: weights as safetensors, a description as JSON.

A judge belongs to the store whose labels it was trained on, so it is kept by the store's hash, in $XDG_CACHE_HOME/aign/
judges (default ~/.cache): the first measurement on a store trains its judge, later ones find it.
"""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from aign.data.publish import published
from aign.evaluation.faces_judge import LabelledFaces
from aign.evaluation.faces_judge_fit import Heads, JudgeConfig, TrainedJudge, train_judge
from aign.evaluation.faces_net import AttributeNet, NetShape
from aign.framework.errors import UserError

WEIGHTS, CARD = "judge.safetensors", "judge.json"
FORMAT = 3
MAX_HEADS = 1000
MAX_IDENTITIES = 100_000


def save_judge(folder: Path, trained: TrainedJudge) -> None:
    """Write a judge; the description, which comes last, says that the weights are whole."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in trained.net.state_dict().items()}
    with published(folder / WEIGHTS) as unfinished:
        safetensors.torch.save_file(state, unfinished)
    content = {
        "format": FORMAT,
        "parts": trained.net.shape.parts,
        "heads": dataclasses.asdict(trained.heads),
        "facts": dict(trained.facts),
    }
    with published(folder / CARD) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1) + "\n")


def load_judge(folder: Path) -> TrainedJudge:
    """Read a judge.

    Raises:
        UserError: there is none, it is damaged, or of another format.
    """
    try:
        data: dict[str, Any] = json.loads((folder / CARD).read_text())
        heads = Heads(**{name: tuple(values) for name, values in data["heads"].items()})
        facts, parts = data["facts"], data["parts"]
        wrong = _wrong(data, heads)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{folder} holds no judge of faces: {error}; it needs {WEIGHTS} and {CARD}") from error
    if wrong:
        raise UserError(f"{folder / CARD} has {wrong}")
    with torch.random.fork_rng(devices=[]):
        net = AttributeNet(NetShape(attributes=len(heads.names), identities=len(heads.identities), parts=parts))
    try:
        net.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{folder / WEIGHTS} does not hold this judge: {str(error).splitlines()[0]}") from error
    if not all(value.isfinite().all() for value in net.state_dict().values()):
        raise UserError(f"{folder / WEIGHTS} holds weights that are not finite; allowed are finite numbers")
    net.eval().requires_grad_(False)
    return TrainedJudge(net=net, heads=heads, facts=facts)


def _wrong(data: dict[str, Any], heads: Heads) -> str:
    """What no writer of ours would have written; sizes are bounded before anything is made of them."""
    k = len(heads.names)
    numbers = (*heads.mean, *heads.scale, *data["facts"].values())
    if data["format"] != FORMAT:
        return f"format {data['format']!r}; allowed is {FORMAT}"
    if not 0 < k <= MAX_HEADS or {len(heads.is_sign), len(heads.mean), len(heads.scale)} != {k}:
        return f"{k} attributes; allowed are 1 to {MAX_HEADS}, each with sign, mean and scale"
    if not all(isinstance(n, str) for n in heads.names) or not all(isinstance(s, bool) for s in heads.is_sign):
        return "attributes that are no names with signs"
    if len(heads.identities) > MAX_IDENTITIES or not all(type(i) is int for i in heads.identities):
        return f"identities that are no numbers, or more than {MAX_IDENTITIES}"
    if not all(type(v) is float and math.isfinite(v) for v in numbers):
        return "means, scales or facts that are no finite numbers"
    return "" if isinstance(data["parts"], bool) else f"parts {data['parts']!r}; allowed are true and false"


def judges_folder() -> Path:
    """Where judges are kept on this machine."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "aign" / "judges"


def kept_judge(
    store_hash: str, faces: Callable[[], LabelledFaces], config: JudgeConfig | None = None, folder: Path | None = None
) -> TrainedJudge:
    """The judge of a store: the one that is kept, or one that is trained now and kept.

    Args:
        store_hash: of the store.
        faces: reads its labelled pictures; called only where a judge has to be trained.
        config: of the training; another one is another judge.
        folder: where judges are kept; None: `judges_folder()`.

    Raises:
        UserError: nothing to learn from, or what is kept is damaged.
    """
    config = config or JudgeConfig()
    what = json.dumps([FORMAT, store_hash, dataclasses.asdict(config)], sort_keys=True)
    name = f"{store_hash[:12]}-{hashlib.sha256(what.encode()).hexdigest()[:12]}"
    at = (folder or judges_folder()) / name
    if not (at / CARD).exists():
        save_judge(at, train_judge(faces(), config, label="train the judge of faces (once a store)"))
    return load_judge(at)
