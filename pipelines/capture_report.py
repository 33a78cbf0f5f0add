"""report.html of a captured video: what the page of a capture is told."""

from collections.abc import Sequence
from pathlib import Path

from aign.inference.capture_page import CapturePage, PagePerson, Strip, write_capture_page
from aign.inference.captured import CapturedMotion
from aign.inference.package import ModelCard
from aign.inference.page import Entry
from pipelines.capture_people import CapturedPerson, CapturedVideo

REPORT = "report.html"
FILES = (
    Entry(term="overlay.mp4", text="the bodies over the video"),
    Entry(term="side_by_side.mp4", text="the same, and the bodies seen from aside"),
    Entry(term="motion.glb", text="the skinned, animated body: Blender, three.js, game engines"),
    Entry(term="motion.bvh", text="the skeleton's motion, in centimetres: Blender, MotionBuilder, Maya"),
    Entry(term="motion.npz", text="the fields of AMASS, z up"),
    Entry(term="motion.trc", text="joints as markers: OpenSim, Pose2Sim"),
    Entry(term="joint_angles.csv", text="degrees, a row a frame"),
    Entry(term="README.txt", text="units, axes and joints of these five"),
    Entry(term="quality.csv", text="the curves of this page as numbers"),
    Entry(term="bodies.npz", text="rotmats, betas, pelvis_cam_m, joints_cam_m in the camera: metres, +y down"),
)


def write_capture_report(video: CapturedVideo, settings: Sequence[Entry], card: ModelCard) -> Path:
    """Write the page of a video.

    Args:
        video: captured, with its overlay.
        settings: what was asked.
        card: of the model.
    """
    frames, known = video.footage.frames, int(video.people[0].seen.known.sum())
    lens = "assumed, so depth and size are rough" if video.footage.assumed else "calibrated"
    people = zip(video.motions, video.people, strict=True)
    page = CapturePage(
        title=f"{video.footage.name}: captured",
        summary=(
            f"{len(video.people)} of {len(video.footage.people)} people that were followed; the first is seen in "
            f"{known} of {frames} frames. The field of view is {lens}.",
            "The curves compare the body with what was detected in the video. They do not know the truth: a small "
            "error does not make a pose right, a large one makes it wrong.",
        ),
        people=tuple(_person(video, motion, person) for motion, person in people),
        settings=tuple(settings),
        model=(
            Entry(term="recipe", text=card.recipe),
            Entry(term="trained on", text=f"store {card.store_hash[:12]}"),
            Entry(term="body", text=card.body),
            *(Entry(term=name, text=f"{value:.4g} on its own test clips") for name, value in card.metrics.items()),
            *([Entry(term="intended use", text=card.intended_use)] if card.intended_use else []),
            *(Entry(term="limit", text=limit) for limit in card.limits),
        ),
        licences=tuple(Entry(term=str(i), text=text) for i, text in enumerate(video.licences, 1)),
        files=FILES,
    )
    return write_capture_page(video.folder / REPORT, page)


def _person(video: CapturedVideo, motion: CapturedMotion, person: CapturedPerson) -> PagePerson:
    quality = person.quality
    return PagePerson(
        name=motion.motion.name,
        video=video.folder / "overlay.mp4",
        fps=video.footage.fps,
        person=motion,
        heat_px=quality.joint_error_px,
        strips=(
            Strip(name="reprojection", unit="px", values=quality.reprojection_px, note="joints to their keypoints"),
            Strip(name="mask IoU", unit="", values=quality.mask_iou, note="body and person's mask", worst="low"),
            Strip(name="flow error", unit="px", values=quality.flow_error_px, note="motion to the next frame"),
            Strip(name="flip risk", unit="", values=quality.flip_risk, note="limbs that lean otherwise in a mirror"),
        ),
    )
