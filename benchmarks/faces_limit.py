"""How much of a bias a faithful picture can have: `python benchmarks/faces_limit.py --store STORE [--write]`.

For each small picture the remembered one is taken whose small picture is the nearest (mirrored ones too), and projected
on the pictures that the renderer turns into the input. So its detail is a real member's and it is faithful to 50 dB.
The judge then says which of them have the target. It is no bound, but nobody paints more real detail than that.
"""

import argparse
from dataclasses import replace

import machine
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from aign.data.store import Store
from aign.evaluation.faces import has_target
from aign.evaluation.faces_image import area_down, psnr_db
from aign.evaluation.faces_judge import Judge
from aign.evaluation.faces_view import FaceView
from aign.recipes.faces import cast, parts
from aign.recipes.faces_runs import superresolution_recipe
from aign.recipes.faces_view import judge_of, low_view
from aign.render.image import area_downsample, back_projected
from aign.tasks.faces.bias import satisfied
from aign.tasks.faces.pictures import read_pictures
from aign.tasks.faces.superresolution import SuperResolverConfig

BIASES = ("sex=female", "sex=male", "age>50", "age<30")


def as_bytes(pictures: Float[Tensor, "n 3 s s"]) -> UInt8[np.ndarray, "n s s 3"]:
    found: np.ndarray = (pictures.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return found


def row(store: Store, judge: Judge, view: FaceView, bias: str) -> str:
    recipe = replace(superresolution_recipe(), bias=bias)
    members = cast(recipe, store, parts(store).train, recipe.task.generator.side_px).memory
    memory = read_pictures(store, members, recipe.task.generator.side_px).float() / 255
    memory = torch.cat((memory, memory.flip(-1)))
    low = torch.from_numpy(view.inputs).permute(0, 3, 1, 2).float() / 255
    nearest = memory[torch.cdist(low.flatten(1), area_downsample(memory).flatten(1)).argmin(1)]
    faithful = as_bytes(back_projected(nearest, low))
    others = ~satisfied(view.target, view.attributes, view.names, view.identity)
    shares = []
    for pictures in (view.before, faithful, as_bytes(nearest)):
        found = has_target(judge, judge.read(pictures), view.target)
        assert found is not None, "the judge of rendered faces tells sex and age"
        shares.append(f"{100 * found[others].mean():.1f}")
    decibels = psnr_db(area_down(faithful, 4), view.inputs).mean()
    return f"| {bias} | {len(memory) // 2} | {int(others.sum())} | {' | '.join(shares)} | {decibels:.1f} |"


def report(url: str) -> str:
    torch.set_num_threads(1)
    store = Store.open(url)
    judge = judge_of(store)
    views = {bias: low_view(store, parts(store).test, SuperResolverConfig(bias=bias), judge) for bias in BIASES}
    lines = [
        "# How much of a bias a faithful picture can have",
        "",
        *machine.lines("python benchmarks/faces_limit.py --store STORE --write", "torch"),
        f"- store {store.hash[:12]}, test part; judge: {judge.name}",
        "",
        "Share, in percent, of people without the target of whom the judge says that they have it.",
        "",
        "| bias | remembered | people without it | bicubic | nearest, made faithful | nearest member | faithful dB |",
        "|:--|--:|--:|--:|--:|--:|--:|",
        *(row(store, judge, view, bias) for bias, view in views.items()),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True, help="a store of faces of 64 px or more")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/faces_limit.md")
    args = parser.parse_args()
    text = report(args.store)
    print(text)
    if args.write:
        machine.publish("faces_limit.md", text)


if __name__ == "__main__":
    main()
