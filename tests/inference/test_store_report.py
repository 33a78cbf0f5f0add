"""Facts about stores in all states of health."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from aign.data.pixels import encode_flow, encode_jpeg, encode_mask
from aign.data.store import Manifest, Moments, Provenance, Quarantined, Stage, Store, commit, write_part
from aign.framework.errors import UserError
from aign.geometry.skeleton import COCO17, H36M17, SMPL24
from aign.inference.store_report.facts import gather
from aign.inference.store_report.numbers import body_height_m, column_facts
from aign.inference.store_report.quality import reason_kind
from tests.inference.test_figure import STANDING_M

EVIL = "</script><img src=x onerror=alert(1)> & \"quoted\" 'too' ${js}"
SIZE = (96, 128)
"""w, h of stored pictures."""
WHOLE = (640, 480)
CROP = np.array([199.5, 39.5, 399.5, 306.1667], np.float32)
FRAMES = 10
LIMITS = {"min_keypoint_conf": 0.4, "mask_agreement": 0.5}
SHORT = "person 2 was tracked for 9 frames; 16 are needed"


def provenance(source: str, table: str, licence: str = "CC0-1.0", **params) -> Provenance:
    chain = [Stage(name="decode", version="1", params={"side_px": 256})]
    if table in ("masks", "quality"):
        chain.append(Stage(name="mask", version="2", params={"threshold": 0.5}))
    if table == "quality":
        chain.append(Stage(name="quality", version="1", params={"limits": LIMITS, **params}))
    return Provenance(
        source_hashes=(f"{source}-0123456789abcdef",), stages=tuple(chain), skeleton="h36m17", num_joints=17,
        licence=licence, producer="aign test",
    )  # fmt: skip


def person_px(frames: int = FRAMES, start: int = 0) -> np.ndarray:
    """A standing figure that walks to the right inside CROP, in pixels of the whole picture."""
    points = STANDING_M[:, :2] * 120 + [270 + start, 175]
    steps = np.arange(frames)[:, None, None] * np.array([6.0, 0.0])
    return (points + steps).astype(np.float32)


def person_mask(points: np.ndarray) -> np.ndarray:
    """A box round the joints, in the stored picture's pixels."""
    inside = (points - CROP[:2]) * np.array(SIZE) / (CROP[2:] - CROP[:2])
    (x0, y0), (x1, y1) = np.floor(inside.min(0)).astype(int), np.ceil(inside.max(0)).astype(int)
    mask = np.zeros(SIZE[::-1], bool)
    mask[max(0, y0) : y1, max(0, x0) : x1] = True
    return mask


def clip_key(sequence: str, camera: str, start: int = 0, frames: int = FRAMES, source: str = "") -> dict:
    return {
        "sequence": sequence, "subject": sequence.partition("/")[0], "action": "walk", "camera": camera,
        "source": source or f"{sequence}.mp4", "frame_start": start, "num_frames": frames, "fps": 25.0,
    }  # fmt: skip


def person_clips(key: dict, figure: float = 0.9, passed: bool = True, reasons: str = "") -> dict[str, dict]:
    """One clip of each table of a person video."""
    frames, points = key["num_frames"], person_px(key["num_frames"], key["frame_start"])
    rng = np.random.default_rng(len(key["sequence"]) + key["frame_start"])
    masks = [person_mask(p) for p in points]
    backdrop = np.linspace(40, 200, SIZE[0], dtype=np.uint8)[None, :, None] * np.ones((SIZE[1], 1, 3), np.uint8)
    pictures = [np.where(m[..., None], np.array([90, 60, 50], np.uint8), backdrop) for m in masks]
    flow = np.zeros((*SIZE[::-1], 2), np.float32) + np.array([2.88, 0], np.float32)
    flows = [encode_flow(flow, m if t < frames - 1 else np.zeros_like(m)) for t, m in enumerate(masks)]
    conf = rng.uniform(0.7, 1, (frames, 17)).astype(np.float32)
    return {
        "frames": key | {
            "image_jpeg": [encode_jpeg(p) for p in pictures], "time_s": np.arange(frames, dtype=np.float32) / 25,
            "frame_size_px": np.array(SIZE, np.int32), "image_size_px": np.array(WHOLE, np.int32),
            "crop_xyxy_px": CROP, "frame_intrinsics_px": np.array([300, 300, 48, 64], np.float32),
        },
        "keypoints": key | {
            "kp2d_px": points, "kp2d_conf": conf, "intrinsics_px": np.array([600, 600, 320, 240], np.float32),
            "distortion": np.zeros(5, np.float32), "image_size_px": np.array(WHOLE, np.int32),
            "intrinsics_source": "assumed",
        },
        "masks": key | {"mask_png": [encode_mask(m) for m in masks]},
        "flow": key | {"flow_zst": flows},
        "quality": key | {
            "keypoint_conf": np.float32(figure), "mask_agreement": np.float32(0.8 * figure),
            "flow_consistency": np.float32(0.7), "sharpness": np.float32(40 * figure),
            "passed": np.bool_(passed), "reasons": reasons,
        },
    }  # fmt: skip


def person_store(url: str, source: str = "walk.mp4") -> Manifest:
    """Three videos: two of two clips each (one dropped), one without masks and flow; one more in quarantine."""
    records = []
    for part, name in enumerate(("anna", "bert", "cleo")):
        keys = [clip_key(f"{name}/walk", "cam1", start, source=f"{part} {source}") for start in (0, FRAMES)]
        clips = [person_clips(keys[0], 0.9 - 0.1 * part)]
        bad = part == 1
        clips.append(
            person_clips(
                keys[1], 0.3 if bad else 0.8, not bad, "keypoint_conf 0.3 < 0.4; blur <b>7.5</b> px" if bad else ""
            )
        )
        for table in ("frames", "keypoints", "masks", "flow", "quality"):
            if part < 2 or table not in ("masks", "flow"):
                made = {table: [clip[table] for clip in clips]}
                licence = "CC0-1.0" if part else "CC-BY-4.0 <b>"
                left_out = (SHORT,) if part == 0 else ()
                records += write_part(url, part, made, provenance(f"s{part}", table, licence), left_out)
    quarantine = [Quarantined(source=f"{source} 9", stage="decode", error="truncated <file> \udcff")]
    manifest = Manifest(skeleton="h36m17", num_joints=17).updated(records, quarantine)
    commit(url, manifest)
    return manifest


@pytest.fixture(scope="module")
def person(tmp_path_factory) -> Path:
    url = tmp_path_factory.mktemp("stores") / "person"
    person_store(str(url))
    return url


@pytest.fixture
def copy(person, tmp_path) -> Path:
    return shutil.copytree(person, tmp_path / "person")


def path_of(store: Path, table: str, part: int) -> Path:
    return next((store / table).glob(f"part-{part:05d}-*.parquet"))


def levels(facts) -> list[str]:
    return [f.level for f in facts.findings]


def test_counts_and_names(person):
    facts = gather(Store.open(str(person)))
    tables = {t.name: t for t in facts.tables}
    assert (tables["frames"].parts, tables["frames"].clips, tables["frames"].frames) == (3, 6, 60)
    assert tables["frames"].seconds == pytest.approx(60 / 25)
    assert (tables["masks"].parts, tables["masks"].frames) == (2, 40)
    assert tables["frames"].bytes == sum(p.stat().st_size for p in (person / "frames").iterdir())
    tallies = {t.title: t.rows for t in facts.tallies}
    assert sorted(tallies["subject"]) == [("anna", 2, 20), ("bert", 2, 20), ("cleo", 2, 20)]
    assert tallies["camera"] == (("cam1", 6, 60),), "a clip counts once, in however many tables it is"
    assert tallies["frame rate"] == (("25 a second", 6, 60),)
    assert facts.files_bytes == sum(p.stat().st_size for p in person.rglob("*") if p.is_file())


def test_lineage_is_by_table_and_licence(person):
    facts = gather(Store.open(str(person)), verify=False)
    licences = {x.tag: (x.parts, x.frames, x.sources) for x in facts.licences}
    assert licences["CC-BY-4.0 <b>"] == (5, 20, ("0 walk.mp4",))
    assert licences["CC0-1.0"] == (8, 40, ("1 walk.mp4", "2 walk.mp4"))
    chains = {c.table: [s.name for s in c.stages] for c in facts.chains}
    assert chains["flow"] == ["decode"]
    assert chains["quality"] == ["decode", "mask", "quality"]
    assert {len(c.parts) for c in facts.chains if c.table == "frames"} == {3}


def test_two_chains_of_one_table_are_told_apart(copy):
    store = Store.open(str(copy))
    clips = [person_clips(clip_key("anna/walk", "cam1", start))["quality"] for start in (0, FRAMES)]
    records = write_part(
        str(copy), 0, {"quality": clips}, provenance("s0", "quality", limits={"keypoint_conf_min": 0.6})
    )
    commit(str(copy), store.manifest.updated(records))
    facts = gather(Store.open(str(copy)), verify=False)
    assert sorted(len(c.parts) for c in facts.chains if c.table == "quality") == [1, 2]
    (stray,) = [f for f in facts.findings if "superseded" in f.what]
    assert "1 superseded file" in stray.what
    assert "quality/part-00000" in stray.what
    assert facts.quality is not None
    assert facts.quality.limits["keypoint_conf"] == (0.4, 0.6)


def test_quality_losses_and_worst(person):
    quality = gather(Store.open(str(person))).quality
    assert quality is not None
    assert dict(quality.limits) == {"keypoint_conf": (0.4,), "mask_agreement": (0.5,)}
    (dropped,) = quality.dropped
    assert (dropped.clip.key.sequence, dropped.clip.key.frame_start) == ("bert/walk", FRAMES)
    assert dropped.reasons == ("keypoint_conf 0.3 < 0.4", "blur <b>7.5</b> px")
    assert dict(quality.reasons) == {"keypoint_conf": 1, "blur <b>#</b> px": 1}
    worst = [(v.clip.key.subject, v.clip.key.frame_start) for v in quality.worst()]
    assert worst[0] == ("bert", FRAMES)
    assert worst[1] == ("cleo", 0), "the lowest figures of those that passed"
    assert worst[-1] == ("anna", 0)
    np.testing.assert_allclose(quality.values("keypoint_conf"), [0.9, 0.8, 0.8, 0.3, 0.7, 0.8], atol=1e-6)


def test_dropped_clips_are_the_worst_whatever_their_figures(tmp_path):
    clips = [
        person_clips(clip_key("anna/walk", "cam1"), 0.95, False, "cut by hand")["quality"],
        person_clips(clip_key("anna/walk", "cam1", FRAMES), 0.5)["quality"],
    ]
    records = write_part(str(tmp_path), 0, {"quality": clips}, provenance("s0", "quality"))
    commit(str(tmp_path), Manifest(skeleton="h36m17", num_joints=17).updated(records))
    quality = gather(Store.open(str(tmp_path))).quality
    assert quality is not None
    assert [v.passed for v in quality.worst()] == [False, True]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("keypoint_conf 0.3 < 0.4", "keypoint_conf"),
        ("only 3 frames of 1.5e-3 s", "only # frames of # s"),
        ("cut", "cut"),
    ],
)
def test_reasons_are_counted_without_their_numbers(reason, kind):
    assert reason_kind(reason) == kind


def test_a_sound_store_still_has_its_gaps_named(person):
    facts = gather(Store.open(str(person)))
    assert "broken" not in levels(facts)
    said = [f.what for f in facts.findings]
    assert any(text.startswith("1 of 3 part numbers without masks: part 2 (2 walk.mp4)") for text in said)
    assert any(text.startswith("1 of 3 part numbers without flow") for text in said)
    assert any("1 source in quarantine: walk.mp4 9" in text for text in said)
    assert any("1 of 6 clips failed" in text for text in said)
    assert [(line.source, line.why) for line in facts.left_out] == [("0 walk.mp4", SHORT)], "once, not once a table"


@pytest.mark.parametrize("verify", [True, False])
def test_missing_and_truncated_parts_are_named_and_the_rest_goes_on(copy, verify):
    gone, cut = path_of(copy, "frames", 0), path_of(copy, "quality", 1)
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:-100])
    facts = gather(Store.open(str(copy)), verify)
    assert set(facts.broken) == {("frames", 0), ("quality", 1)}
    first, second = [f for f in facts.findings if f.level == "broken"]
    assert first.what.startswith(f"frames/{gone.name} (0 walk.mp4) is missing")
    assert "remove" not in first.remedy
    assert f"quality/{cut.name} (1 walk.mp4) is truncated" in second.what
    assert second.remedy == "remove it and run the same preprocessing again"
    quality = facts.quality
    assert quality is not None
    assert len(quality.verdicts) == 6
    assert quality.dropped[0].reasons == ("not known: its quality part is broken",), "the manifest knows it was dropped"
    assert len(quality.values("sharpness")) == 4
    assert {t.name: t.parts for t in facts.tables}["frames"] == 3


def test_a_changed_byte_is_found_by_verifying_only(copy):
    path = path_of(copy, "masks", 1)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert gather(Store.open(str(copy)), verify=False).broken == {}
    facts = gather(Store.open(str(copy)), verify=True)
    assert facts.broken == {("masks", 1): "changed: its sha256 is not the manifest's"}


def test_files_that_are_not_the_stores_are_counted(copy):
    (copy / "frames" / ".tmp-1-part-00000-a.parquet").write_bytes(b"x")
    (copy / "frames" / "part-00000-000000000000.parquet").write_bytes(b"x" * 1000)
    (copy / "notes.txt").write_text("mine")
    (copy / ".lock").write_text("{}")
    said = {f.what: f.level for f in gather(Store.open(str(copy)), verify=False).findings}
    (superseded,) = [text for text in said if "superseded" in text]
    assert superseded.startswith("1 superseded file (1.0 kB)")
    assert said[superseded] == "note"
    assert said["1 half-written file"] == "note"
    assert said["1 file of no table: notes.txt"] == "note"
    assert any(text.startswith(".lock is there") for text in said)


def test_tables_of_other_clips_are_named(copy):
    store = Store.open(str(copy))
    clip = person_clips(clip_key("anna/walk", "cam1", 0, 7))["masks"]
    records = write_part(str(copy), 0, {"masks": [clip]}, provenance("other", "masks"))
    commit(str(copy), store.manifest.updated(records))
    said = [f.what for f in gather(Store.open(str(copy)), verify=False).findings]
    assert "1 part number with other clips in masks than in frames" in said


def test_unknown_licences_are_a_warning(copy):
    store = Store.open(str(copy))
    part = store.manifest.parts[0]
    nameless = dataclasses.replace(part, provenance=dataclasses.replace(part.provenance, licence="unknown"))
    commit(str(copy), store.manifest.updated([nameless]))
    (found,) = [f for f in gather(Store.open(str(copy))).findings if "licence" in f.what]
    assert found.level == "warning"
    assert part.path in found.what


def motion_store(url: str, scale: float = 1.0, flip: bool = False) -> Store:
    """Labels and memory of one standing person; `flip` turns the world upside down."""
    key = clip_key("dora/stand", "cam1", frames=4)
    sway = np.linspace(0, 0.05, 4)[:, None, None]
    joints = (STANDING_M * scale * (-1 if flip else 1) + sway).astype(np.float32)
    world = (joints[..., [0, 2, 1]] * [1, 1, -1]).astype(np.float32)
    labels = key | {
        "joints_cam_m": joints + np.array([0, 0, 4], np.float32), "joints_valid": np.ones((4, 17), bool),
        "rot_world_to_cam": np.eye(3, dtype=np.float32).reshape(9), "trans_world_to_cam_m": np.zeros(3, np.float32),
    }  # fmt: skip
    memory = key | {"camera": "", "joints_world_m": world, "rig_rot_world_to_cam": np.eye(3).reshape(1, 9)}
    records = [
        *write_part(url, 0, {"labels": [labels]}, provenance("d", "labels")),
        *write_part(url, 0, {"memory_pose": [memory]}, provenance("d", "memory_pose")),
    ]
    commit(url, Manifest(skeleton="h36m17", num_joints=17).updated(records))
    return Store.open(url)


def test_people_are_measured_along_their_bones(tmp_path):
    facts = gather(motion_store(str(tmp_path)))
    (person,) = facts.people
    assert person.subject == "dora"
    tallies = {t.title: t.rows for t in facts.tallies}
    assert tallies["subject"] == (("dora", 1, 4),), "the camera's clip; the memory of the same motion is not another"
    assert 1.3 < person.height_m < 2.0
    assert not [f for f in facts.findings if f.level != "note"]


def test_half_sized_people_and_a_world_upside_down_are_suspicious(tmp_path):
    small = gather(motion_store(str(tmp_path / "small"), scale=0.5))
    assert any("m tall along the bones" in f.what for f in small.findings)
    turned = gather(motion_store(str(tmp_path / "turned"), flip=True))
    said = [f.what for f in turned.findings]
    assert any("labels.joints_cam_m: heads are below feet" in text for text in said)
    assert any("memory_pose.joints_world_m: heads are below feet" in text for text in said)


def test_height_does_not_change_with_the_pose_or_with_joints_that_are_not_seen():
    standing = np.stack([STANDING_M] * 3).astype(np.float32)
    height = body_height_m(standing, None, H36M17)
    assert height is not None
    lying = standing @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], np.float32)
    assert body_height_m(lying, None, H36M17) == pytest.approx(height, abs=1e-5)
    valid = np.ones((3, 17), bool)
    valid[1:, H36M17.index("l_knee")] = False
    stretched = standing.copy()
    stretched[1:, H36M17.index("l_knee")] += 5
    assert body_height_m(stretched, valid, H36M17) == pytest.approx(height, abs=1e-5)
    assert body_height_m(standing, np.zeros((3, 17), bool), H36M17) is None
    assert body_height_m(standing, None, COCO17) is None, "no pelvis and no crown"
    assert body_height_m(np.zeros((1, 24, 3), np.float32), None, SMPL24) == 0


def test_statistics_in_words(person):
    words = {c.column: c for c in column_facts(Store.open(str(person)))}
    assert words["intrinsics_px"].words == "focal length 600 x 600 px, centre (320, 240) on average"
    assert "least sure" in words["kp2d_conf"].words
    assert not [c.suspicion for c in words.values() if c.suspicion]


@pytest.mark.parametrize(
    ("column", "mean", "said"),
    [
        ("kp2d_conf", np.full(17, 0.1), "hardly any joint"),
        ("kp2d_conf", np.r_[0.0, np.ones(16)], "almost never seen: pelvis"),
        ("frame_intrinsics_px", np.array([600.0, 300, 10, 10]), "far from square"),
        ("distortion", np.array([2.0, 0, 0, 0, 0]), "very strong"),
        ("crop_xyxy_px", np.array([np.nan, 0, 1, 1]), "not finite"),
        ("kp2d_px", np.full((17, 2), 7.0), "never changes"),
    ],
)
def test_odd_statistics_are_flagged(copy, column, mean, said):
    store = Store.open(str(copy))
    spread = np.zeros_like(mean) if column == "kp2d_px" else np.ones_like(mean)
    moments = Moments(count=9, mean=mean.astype(np.float64), squares=spread)
    manifest = dataclasses.replace(
        store.manifest,
        parts=tuple(
            dataclasses.replace(p, statistics={**p.statistics, column: moments}) if column in p.statistics else p
            for p in store.manifest.parts
        ),
    )
    odd = [c for c in column_facts(Store(str(copy), manifest)) if c.column == column]
    assert said in odd[0].suspicion


def test_no_store_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no store at"):
        gather(Store.open(str(tmp_path)))
    (tmp_path / "manifest.json").write_text(json.dumps({"schema_version": 1}))
    with pytest.raises(UserError, match="schema version 1"):
        gather(Store.open(str(tmp_path)))


def test_an_empty_store_has_nothing_to_say(tmp_path):
    commit(str(tmp_path), Manifest(skeleton="h36m17", num_joints=17))
    facts = gather(Store.open(str(tmp_path)))
    assert (facts.tables, facts.tallies, facts.findings) == ((), (), ())
