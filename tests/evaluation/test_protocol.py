"""Protocols as data: names, hashes, refusals."""

import dataclasses

import pytest

from aign.data.actions import ACTIONS_13, ACTIONS_15, SHORT_LABELS, canonical_action
from aign.data.datasets.h36m.h36m_takes import DAMAGED
from aign.evaluation.protocol import ALIASES, PROTOCOLS, resolve
from aign.framework.errors import UserError
from aign.geometry.skeleton import H36M17, LSP14, SMPL24


@pytest.mark.parametrize(
    ("spelled", "action"),
    [
        ("Sitting", "Sitting"),
        ("Sitting 1", "Sitting"),
        ("SittingDown 2", "SittingDown"),
        ("Sitting Down", "SittingDown"),
        ("sitting_down-1", "SittingDown"),
        ("Walking 1", "Walking"),
        ("WalkDog", "WalkDog"),
        ("WalkingDog 1", "WalkDog"),
        ("WakingDog", "WalkDog"),
        ("WalkTogether 1", "WalkTogether"),
        ("WalkingTogether", "WalkTogether"),
        ("TakingPhoto 1", "Photo"),
        ("Photo", "Photo"),
    ],
)
def test_every_spelling_of_an_action_is_one(spelled: str, action: str) -> None:
    assert canonical_action(spelled) == action


@pytest.mark.parametrize("name", ["_ALL", "_ALL 1", "Miscellaneous", "Sit", "Walk", "WalkingTall", "", "1"])
def test_other_names_are_refused_and_named(name: str) -> None:
    with pytest.raises(UserError, match="Directions") as error:
        canonical_action(name)
    assert repr(name) in str(error.value)


def test_action_tables() -> None:
    assert len(ACTIONS_15) == len(set(ACTIONS_15)) == 15
    assert set(ACTIONS_15) - set(ACTIONS_13) == {"WalkDog", "WalkTogether"}
    assert set(SHORT_LABELS) == set(ACTIONS_15)
    assert len(set(SHORT_LABELS.values())) == 15


@pytest.mark.parametrize("bare", ["p1", "P2", "protocol 1", "Protocol #2", "protocol-2", "3", "Protocol II"])
def test_a_bare_protocol_number_is_refused_with_the_ids(bare: str) -> None:
    with pytest.raises(UserError, match="different things") as error:
        resolve(bare)
    for name in ("vp3d-p1", "hmr-p1", "sun-p1"):
        assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_ids_are_refused_with_close_ones() -> None:
    with pytest.raises(UserError, match=r"aign-iccv17-13"):
        resolve("aign-iccv17")
    with pytest.raises(UserError, match="allowed are"):
        resolve("zzzz")


def test_ids_hashes_and_aliases() -> None:
    assert all(key == protocol.id for key, protocol in PROTOCOLS.items())
    hashes = [p.hash for p in PROTOCOLS.values()]
    assert len(set(hashes)) == len(hashes)
    assert set(ALIASES.values()) <= set(PROTOCOLS)
    assert resolve("vp3d-p1") is resolve("h36m/s9s11/all-cams/50hz/j17/root0")
    assert [resolve(f"vp3d-p{n}").headline for n in (1, 2, 3)] == ["root", "similarity", "scale"]


def test_the_hash_sees_every_field_but_the_id() -> None:
    base = resolve("aign-iccv17-13")
    assert dataclasses.replace(base, id="another name").hash == base.hash
    changes = {
        "joint_set": "lsp14",
        "joints": (1, 2),
        "root": (1, 4),
        "alignments": ("root",),
        "aggregation": "frames",
        "frame_stride": 1,
        "subjects": ("S9",),
        "cameras": ("54138969",),
        "trials": (1,),
        "excluded": (),
        "actions": ACTIONS_15,
    }
    assert set(changes) == {f.name for f in dataclasses.fields(base)} - {"id"}
    for name, value in changes.items():
        assert dataclasses.replace(base, **{name: value}).hash != base.hash, name


GOLDEN = {
    "h36m/s9s11/all-cams/50hz/j17/root0": "af292fa3f9f9",
    "h36m/s9s11/all-cams/50hz/j17/root0/similarity": "34aa066497fc",
    "h36m/s9s11/all-cams/50hz/j17/root0/scale": "d53941015271",
    "h36m/s9s11/all-cams/50hz/j17/root0/no-damaged": "5b3b9e9ab4b3",
    "h36m/s9s11/all-cams/50hz/j17/root0/similarity/no-damaged": "76e6c309087a",
    "hmr-p1": "1ae2265f17cb",
    "hmr-p2": "c6f91df79f60",
    "spin-p2": "9b986fdd947d",
    "sun-p1": "3253e391ddbd",
    "sun-p2": "5f19c34a6c42",
    "aign-iccv17-13": "1d40f673c803",
    "aign-iccv17-15": "850524bfbc34",
    "open-motion/heldout/j17/root0": "5a162d2812e4",
    "open-video/pseudo-truth/j17/root0": "bc2b859540ff",
    "open-motion/heldout/j14/mid-hip": "6f3d5a4824f1",
    "open-video/pseudo-truth/j14/mid-hip": "fe93a3fefd69",
    "aign-nips17-mesh24/smpl-origin": "a0be9075e6a7",
    "aign-nips17-mesh24/pelvis": "b4eb0da396b3",
}


def test_golden_hashes() -> None:
    """A hash that changes makes old and new numbers incomparable: change one only on purpose, and say why."""
    assert {name: p.hash for name, p in PROTOCOLS.items()} == GOLDEN


def test_what_the_table_says() -> None:
    lifting, hmr, spin = resolve("vp3d-p1"), resolve("hmr-p2"), resolve("spin-p2")
    assert (lifting.frame_stride, lifting.subjects, lifting.excluded) == (1, ("S9", "S11"), ("S11/Directions",))
    assert lifting.counts_root
    assert not spin.counts_root
    assert (hmr.cameras, hmr.trials, hmr.frame_stride) == (("60457274",), (1,), 5)
    assert (spin.cameras, spin.trials, spin.root) == (("60457274",), (), (0,))
    assert (resolve("sun-p1").subjects, resolve("sun-p1").headline) == (("S11",), "similarity")
    assert (resolve("sun-p2").frame_stride, resolve("sun-p2").headline) == (64, "root")
    aign = resolve("aign-iccv17-13")
    assert {"similarity", "limb329", "root"} <= set(aign.alignments)
    assert (aign.headline, len(aign.actions), len(resolve("aign-iccv17-15").actions)) == ("similarity", 13, 15)


def test_joint_numbers_mean_the_joints_they_should() -> None:
    # LSP-14 is listed for left-leg-first sets in some papers; here it must hit these names of H36M-17.
    assert {H36M17.joints[j] for j in resolve("hmr-p1").joints} == set(LSP14.joints)
    assert [H36M17.joints[j] for j in resolve("hmr-p1").root] == ["r_hip", "l_hip"]
    assert H36M17.joints[0] == "pelvis"


def test_mesh_protocols_count_the_24_joints_of_smpl_and_differ_in_the_centre_alone() -> None:
    origin, pelvis = resolve("aign-nips17-mesh24/smpl-origin"), resolve("aign-nips17-mesh24/pelvis")
    assert origin.num_joints == len(SMPL24) == len(origin.joints) == 24
    assert (origin.root, [SMPL24.joints[j] for j in pelvis.root]) == ((), ["pelvis"])
    assert dataclasses.replace(origin, root=(0,)).hash == pelvis.hash
    assert origin.alignments == ("root", "similarity")
    assert (origin.counts_root, pelvis.counts_root) == (False, True)
    assert not origin.human36m


def test_limb329_joins_hip_and_shoulder_of_one_side() -> None:
    from aign.evaluation.pose import LIMBS

    assert [[H36M17.joints[j] for j in pair] for pair in LIMBS] == [["r_hip", "r_shoulder"], ["l_hip", "l_shoulder"]]


@pytest.mark.parametrize(
    ("name", "views"),
    [
        ("vp3d-p1", 59 * 4),  # the 236 views of VideoPose3D's log
        ("vp3d-p2/no-damaged", 56 * 4),
        ("aign-iccv17-13", 59 * 4),
        ("hmr-p1", 60 * 4 - 1),
        ("hmr-p2", 30),
        ("spin-p2", 60),
        ("sun-p1", 30 * 4 - 1),
        ("open-motion/heldout/j17/root0", 0),
    ],
)
def test_how_many_views_of_human36m_count(name: str, views: int) -> None:
    assert resolve(name).num_views == views


def test_only_protocols_of_our_own_leave_damaged_sequences_out() -> None:
    """No paper of these protocols does; see docs/evaluation.md."""
    for protocol in PROTOCOLS.values():
        assert set(DAMAGED) & set(protocol.excluded) == (set(DAMAGED) if protocol.id.endswith("/no-damaged") else set())
    clean, whole = resolve("vp3d-p1/no-damaged"), resolve("vp3d-p1")
    assert dataclasses.replace(clean, excluded=whole.excluded).hash == whole.hash, "nothing else differs"
