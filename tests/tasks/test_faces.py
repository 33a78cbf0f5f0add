"""Super-resolution and inpainting as problems: what G sees, what P does, what moves G."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aign.framework.errors import UserError
from aign.framework.game import RealGradient
from aign.render.image import area_downsample
from aign.tasks.faces import inpainting, superresolution
from aign.tasks.faces.answers import enlarged, filled
from aign.tasks.faces.critic import CriticConfig, Remembered
from aign.tasks.faces.inpainting import InpainterConfig, InpaintingConfig
from aign.tasks.faces.labels import read_labels
from aign.tasks.faces.masks import MaskConfig, in_square, mirrored_boxes, part_masks, read_boxes
from aign.tasks.faces.memory import PictureMemory
from aign.tasks.faces.pictures import check_size, chosen, read_pictures, squared, window
from aign.tasks.faces.superresolution import SuperResolutionConfig, SuperResolverConfig, ThereAndBack
from tests.tasks.toy_faces import NAMES, beard, store_of, toy_face, toy_rows, toy_store

LOW = SuperResolverConfig(low_px=8, channels=8, blocks=1)
CRITIC = CriticConfig(channels=8)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_store(str(tmp_path_factory.mktemp("faces") / "store"))


def remembered(side=32, n=20):
    return Remembered(pictures=torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8))


def batch(n=4, side=32, h=32, w=32):
    return {
        "face_rgb": torch.randint(0, 256, (n, h, w, 3), dtype=torch.uint8),
        "sample_seed": torch.arange(n),
        "boxes_px": torch.tensor([[10.0, 20, 22, 26], [13, 12, 19, 20], [6, 9, 26, 15]]).repeat(n, 1, 1),
    }


def resolution(**weights):
    config = SuperResolutionConfig(generator=LOW, critic=CRITIC, weights=superresolution.weights(**weights))
    return superresolution.build(config, superresolution.new_resolver(LOW), remembered())


def surgery(judged="picture", **weights):
    config = InpaintingConfig(critic=CRITIC, judged=judged, weights=inpainting.weights(**weights))
    shape = InpainterConfig(side_px=32, channels=8, blocks=1)
    return inpainting.build(config, inpainting.new_inpainter(shape), remembered())


def test_what_the_generator_sees_is_the_renderers_picture_of_the_truth():
    seen = superresolution.observe(batch(), 32)
    assert seen.low.shape == (4, 3, 8, 8)
    assert torch.equal(seen.low, area_downsample(seen.truth))
    assert seen.truth.min() >= 0
    assert 0.9 < seen.truth.max() <= 1


def test_half_of_the_pictures_are_mirrored_by_their_seed_alone():
    given = {**batch(64), "sample_seed": torch.arange(64)}
    truth, seen = squared(given["face_rgb"], 32), superresolution.observe(given, 32)
    same = (seen.truth == truth).flatten(1).all(1)
    assert 16 < int(same.sum()) < 48
    assert torch.equal(seen.truth[~same], truth[~same].flip(-1))
    part = superresolution.observe({k: v[40:] for k, v in given.items()}, 32)
    assert torch.equal(part.truth, seen.truth[40:])


def test_a_picture_that_is_not_square_loses_its_longer_sides_ends():
    tall = torch.zeros(1, 44, 32, 3, dtype=torch.uint8)
    tall[:, 6:38] = 255
    assert (squared(tall, 32) == 1).all()
    assert (squared(tall.transpose(1, 2), 16) == 1).all()


def test_an_untrained_generator_is_faithful_but_for_the_interpolation_and_an_exact_one_wholly():
    seen = superresolution.observe(batch(), 32)
    aign = resolution(render=1.0)
    loose = aign.generator_losses(seen, aign.encode(seen))["render"]
    assert 0 < loose.max() < 0.1
    exact = superresolution.new_resolver(replace(LOW, exact=True))
    with torch.no_grad():
        for parameter in exact.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    assert area_downsample(exact(seen).picture).detach() == pytest.approx(seen.low, abs=1e-5)


@pytest.mark.parametrize("name", ["render", "paired", "critic"])
@pytest.mark.parametrize("make", [resolution, surgery])
def test_every_term_reaches_the_generator(make, name):
    aign = make(**{name: 1.0})
    seen = superresolution.observe(batch(), 32) if make is resolution else inpainting.observe(batch(), 32, MaskConfig())
    losses = aign.generator_losses(seen, aign.encode(seen))
    assert losses.keys() == {name}
    assert losses[name].shape == (4,)
    aign.total(losses).backward()
    assert max(float(p.grad.abs().max()) for p in aign.encode.parameters() if p.grad is not None) > 0


def test_the_cycle_has_a_way_back_and_no_renderer():
    aign = resolution(cycle=1.0, critic=0.1)
    assert isinstance(aign.encode, ThereAndBack)
    seen = superresolution.observe(batch(), 32)
    z = aign.encode(seen)
    assert z.back.shape == seen.low.shape
    losses = aign.generator_losses(seen, z)
    assert losses.keys() == {"cycle", "critic"}
    aign.total(losses).backward()
    assert all(p.grad is not None for p in aign.encode.back.parameters())
    alone = superresolution.forth_alone(aign.encode.state_dict())
    superresolution.new_resolver(LOW).load_state_dict(alone)
    plain = aign.encode.forth.state_dict()
    assert superresolution.forth_alone(plain).keys() == plain.keys()


def test_no_label_of_a_face_is_used_without_a_paired_weight():
    aign = resolution(render=1.0, critic=0.1)
    seen = superresolution.observe(batch(), 32)
    other = replace(seen, truth=torch.rand_like(seen.truth))
    one, two = (aign.generator_losses(s, aign.encode(s)) for s in (seen, other))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_networks_start_from_the_seed():
    states = [superresolution.new_resolver(LOW, seed).state_dict() for seed in (0, 0, 1)]
    name = "net.first.weight"
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])


def test_r1_is_played_unless_gamma_is_0():
    for gamma, kind in ((1.0, RealGradient), (0.0, object)):
        config = SuperResolutionConfig(generator=LOW, critic=replace(CRITIC, gamma=gamma))
        game = superresolution.build(config, superresolution.new_resolver(LOW), remembered()).critics["critic"].game
        assert isinstance(game, kind)
        assert isinstance(game, RealGradient) == (gamma > 0)


def test_a_filled_picture_is_the_given_one_outside_of_the_hole():
    seen = inpainting.observe(batch(), 32, MaskConfig())
    aign = surgery(render=1.0)
    z = aign.encode(seen)
    assert torch.equal(z.picture * seen.keep, seen.given)
    assert not torch.equal(z.picture, seen.given)
    assert torch.equal(seen.given, seen.truth * seen.keep)
    shown = {j: surgery(j, critic=1.0).critics["critic"].view(z, seen) for j in ("picture", "network", "part")}
    assert torch.equal(shown["picture"], z.picture)
    assert torch.equal(shown["network"], z.whole)
    assert shown["part"].shape == (4, 3, 16, 16)
    assert surgery("part", critic=1.0).critics["critic"].net(shown["part"]).shape == (4, 2)


def test_convention_a_window_is_the_pixels_round_the_middle_of_the_box_and_stays_inside():
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    pictures = torch.stack((x, y, x)).expand(3, 3, 16, 16).clone().requires_grad_()
    boxes = torch.tensor([[5.0, 6, 10, 9], [0.0, 0, 2, 2], [14.0, 13, 16, 15]])
    cut = window(pictures, boxes)
    assert [cut[i, 0, 0, 0].item() for i in range(3)] == [4, 0, 8], "x of the left column: 7.5 - 3.5, then the edges"
    assert [cut[i, 1, 0, 0].item() for i in range(3)] == [4, 0, 8]
    assert torch.equal(cut[0, :, 1:, 1:] - cut[0, :, :-1, :-1], torch.ones(3, 7, 7))
    cut.sum().backward()
    assert pictures.grad.flatten(1).sum(1).tolist() == [3 * 64] * 3


@pytest.mark.parametrize("shape", ["box", "free", "both"])
@pytest.mark.parametrize("part", ["lips", "nose", "eyes"])
def test_a_mask_hides_all_of_the_part_and_not_all_of_the_face(part, shape):
    boxes = batch(40)["boxes_px"][:, {"lips": 0, "nose": 1, "eyes": 2}[part]]
    keep = part_masks(boxes, 32, torch.arange(40), MaskConfig(part=part, shape=shape))
    assert set(keep.unique().tolist()) == {0.0, 1.0}
    x0, y0, x1, y1 = (int(v) for v in boxes[0])
    assert (keep[:, 0, y0 + 1 : y1, x0 + 1 : x1] == 0).all()
    hidden = (1 - keep).flatten(1).sum(1)
    assert (hidden >= (y1 - y0) * (x1 - x0)).all()
    assert (hidden < 0.7 * 32 * 32).all()
    assert len(hidden.unique()) > 3, "each sample has its own"
    again = part_masks(boxes[7:9], 32, torch.arange(7, 9), MaskConfig(part=part, shape=shape))
    assert torch.equal(again, keep[7:9])


def test_convention_boxes_follow_the_picture_into_the_square_and_the_mirror():
    box = torch.tensor([[9.5, 15.5, 19.5, 25.5]])  # edges of columns 10..19, rows 16..25 of 44 rows of 32
    inside = in_square(box, torch.tensor([[32.0, 44.0]]), 16)
    picture = torch.zeros(1, 44, 32, 3, dtype=torch.uint8)
    picture[:, 16:26, 10:20] = 255
    small = squared(picture, 16)[0, 0]
    y, x = torch.nonzero(small == 1, as_tuple=True)
    assert inside[0].tolist() == [4.5, 4.5, 9.5, 9.5]
    assert (x.min() - 0.5, y.min() - 0.5, x.max() + 0.5, y.max() + 0.5) == (4.5, 4.5, 9.5, 9.5)
    assert mirrored_boxes(inside, 16)[0].tolist() == [5.5, 4.5, 10.5, 9.5]
    assert small.flip(-1)[5:10, 6:11].min() == 1


def test_the_memory_gives_numbers_in_0_to_1_half_of_them_mirrored_alike_on_every_rank():
    values = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    values[:, :, :, 0] = 255
    values[:, :, :, 7] = 0

    def memory(rank, world):
        return PictureMemory(values, torch.Generator().manual_seed(3), rank, world)

    whole = memory(0, 1).sample(torch.zeros(64, 3, 8, 8))
    assert whole.dtype == torch.float32
    assert whole.max() == 1
    assert 16 < int((whole[:, 0, 0, 0] == 0).sum()) < 48, "mirrored"
    halves = [memory(rank, 2).sample(torch.zeros(32, 3, 8, 8)) for rank in (0, 1)]
    assert torch.equal(torch.cat(halves), whole)
    assert memory(0, 1).sample(torch.zeros(2, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64


def test_labels_pictures_and_boxes_of_a_store(store):
    labels = read_labels(store)
    assert labels.names == NAMES
    assert len(labels.identity) == 160
    assert set(labels.partition.tolist()) == {"train", "val", "test"}
    some = labels.attributes[:, 0] > 0
    pictures = read_pictures(store, chosen(labels, some), 32)
    assert pictures.shape == (int(some.sum()), 3, 32, 32)
    assert pictures.dtype == torch.uint8
    assert beard(pictures.permute(0, 2, 3, 1).numpy()).min() > 0.5, "the chosen ones, and no others"
    assert read_pictures(store, chosen(labels, ~some), 16).shape[1:] == (3, 16, 16)
    boxes = read_boxes(store, chosen(labels, some), "lips")
    assert boxes.boxes_px.shape == (int(some.sum()), 4)
    assert 0 < (~boxes.valid).sum() < 20
    assert set(boxes.keys) == chosen(labels, some).keys


def test_a_mixture_of_data_sets_has_all_their_attributes(tmp_path):
    one, other = ({"faces": toy_rows(name, 3, 32, 0)["faces"]} for name in ("train", "val"))
    for row in other["faces"]:
        row |= {"attribute_names": "Young Male", "attributes": np.array([1, -1], np.float32)}
    labels = read_labels(store_of(str(tmp_path / "store"), [one, other]))
    assert labels.names == (*NAMES, "Young")
    assert np.isnan(labels.attributes).tolist() == 3 * [[False, False, False, True]] + 3 * [[False, True, True, False]]
    assert labels.attributes[3:, [0, 3]].tolist() == 3 * [[-1, 1]]


def test_pictures_smaller_than_the_recipe_wants_are_refused(store):
    labels = read_labels(store)
    with pytest.raises(UserError, match="160 of 160 pictures are smaller than 64 px"):
        check_size(labels, 64)
    check_size(labels, 32)


def test_answers_are_pictures_as_files_hold_them():
    rng = np.random.default_rng(0)
    truth = np.stack([toy_face(rng, 32, True, 0.5)[0] for _ in range(3)])
    low = truth.reshape(3, 8, 4, 8, 4, 3).mean((2, 4)).round().astype(np.uint8)
    made = enlarged(superresolution.new_resolver(LOW).train(), low)
    assert made.shape == truth.shape
    assert made.dtype == np.uint8
    hole = np.zeros((3, 32, 32), bool)
    hole[:, 20:26, 10:22] = True
    net = inpainting.new_inpainter(InpainterConfig(side_px=32, channels=8, blocks=1))
    whole = filled(net, truth, hole)
    assert (whole[~hole] == truth[~hole]).all()
    assert (whole[hole] != truth[hole]).any()
    assert net.training
    blind = truth.copy()
    blind[hole] = 7
    assert (filled(net, blind, hole) == whole).all(), "what is hidden is not seen"
    assert enlarged(superresolution.new_resolver(LOW), low[:0]).shape[0] == 0


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: SuperResolverConfig(low_px=12), "low_px 12; allowed are 8, 16, 32, 64"),
        (lambda: SuperResolverConfig(channels=0), "0 channels"),
        (lambda: SuperResolverConfig(bias="nobody"), "bias 'nobody'"),
        (lambda: InpainterConfig(side_px=48), "side_px 48"),
        (lambda: InpainterConfig(channels=12), "12 channels"),
        (lambda: InpainterConfig(bias="lips>big"), "lips>big"),
        (lambda: CriticConfig(gamma=-1.0), "gamma -1"),
        (lambda: MaskConfig(margin=0.5), "margin 0.5"),
        (lambda: MaskConfig(jitter=0.5), "jitter 0.5"),
    ],
)
def test_sizes_that_are_none_are_refused(make, why):
    with pytest.raises(UserError, match=why):
        make()
