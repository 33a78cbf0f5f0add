"""PA-MPJPE: poses per second, batched against a loop of one numpy SVD per pose.

    python benchmarks/pa_mpjpe.py [--write]

Both run in this process on one thread, in turns, and the medians are compared. Poses are random bodies, never zero;
predictions are turned, scaled and noisy copies (what a trained model gives) or unrelated bodies (what an untrained one
gives, the harder case for the iteration). `--write` puts the figures into benchmarks/results/pa_mpjpe.md.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import machine
import numpy as np
import torch

from aign.evaluation.pose import pa_mpjpe

TARGET_RATIO = 50.0
TARGET_MM = 1e-4
JOINTS = 17
LOOP_POSES = 4_000
BATCH_POSES = 100_000
ROUNDS = 9


def similarity_aligned_error(predicted: np.ndarray, target: np.ndarray) -> float:
    """The textbook for one pose: centre, SVD, mend the handedness, scale, measure."""
    predicted_mean, target_mean = predicted.mean(axis=0), target.mean(axis=0)
    x, y = predicted - predicted_mean, target - target_mean
    u, s, vt = np.linalg.svd(x.T @ y)
    rot = vt.T @ u.T
    if np.linalg.det(rot) < 0:
        vt[-1] *= -1
        s[-1] *= -1
        rot = vt.T @ u.T
    scale = s.sum() / (x**2).sum()
    aligned = scale * x @ rot.T + target_mean
    return float(np.sqrt(((aligned - target) ** 2).sum(axis=1)).mean())


def loop(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    return 1000 * np.array([similarity_aligned_error(p, t) for p, t in zip(predicted, target, strict=True)])


def random_poses(kind: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    size = np.array([0.15, 0.45, 0.12])
    target = rng.normal(size=(BATCH_POSES, JOINTS, 3)) * size
    if kind == "unrelated":
        return (rng.normal(size=target.shape) * size).astype(np.float32), target.astype(np.float32)
    turn = np.linalg.qr(rng.normal(size=(BATCH_POSES, 3, 3)))[0]
    turn *= np.linalg.det(turn)[:, None, None]
    scale = rng.uniform(0.8, 1.2, size=(BATCH_POSES, 1, 1))
    predicted = scale * (target + rng.normal(scale=0.04, size=target.shape)) @ turn
    return predicted.astype(np.float32), target.astype(np.float32)


def poses_per_second(run: Callable[[], object], poses: int) -> float:
    start = time.perf_counter()
    run()
    return poses / (time.perf_counter() - start)


def measure(kind: str) -> dict[str, float]:
    predicted, target = random_poses(kind)
    some = predicted[:LOOP_POSES].astype(np.float64), target[:LOOP_POSES].astype(np.float64)
    batch = torch.from_numpy(predicted), torch.from_numpy(target)
    valid = torch.ones(BATCH_POSES, JOINTS, dtype=torch.bool)
    difference = float(np.abs(pa_mpjpe(*batch, valid)[:LOOP_POSES].numpy() - loop(*some)).max())
    single: list[float] = []
    batched: list[float] = []
    for _ in range(ROUNDS):
        single.append(poses_per_second(lambda: loop(*some), LOOP_POSES))
        batched.append(poses_per_second(lambda: pa_mpjpe(*batch, valid), BATCH_POSES))
    return {
        "loop": statistics.median(single),
        "batched": statistics.median(batched),
        "ratio": statistics.median(b / s for s, b in zip(single, batched, strict=True)),
        "difference_mm": difference,
    }


def as_markdown(results: dict[str, dict[str, float]]) -> str:
    lines = [
        "# Batched PA-MPJPE against a per-pose numpy SVD loop",
        "",
        "| predictions | loop, poses/s | batched, poses/s | ratio | largest difference, mm |",
        "|:--|--:|--:|--:|--:|",
    ]
    for kind, r in results.items():
        figures = f"{r['loop']:,.0f} | {r['batched']:,.0f} | {r['ratio']:.1f}x | {r['difference_mm']:.1e}"
        lines.append(f"| {kind} | {figures} |")
    return "\n".join(
        [
            *lines,
            "",
            f"Target: at least {TARGET_RATIO:.0f}x and at most {TARGET_MM:.0e} mm apart. Float32 poses of {JOINTS} "
            f"joints in batches of {BATCH_POSES:,}; one thread, same process, in turns, median of {ROUNDS} rounds.",
            "",
            *machine.lines("python benchmarks/pa_mpjpe.py --write", "torch", "numpy"),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/pa_mpjpe.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text = as_markdown({kind: measure(kind) for kind in ("close", "unrelated")})
    print(text)
    if arguments.write:
        machine.publish("pa_mpjpe.md", text)


if __name__ == "__main__":
    main()
