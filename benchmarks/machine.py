"""What every result names: machine, versions, date and commit. Run alone, it prints them."""

import datetime
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def commit() -> str:
    got = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run(["git", "status", "--porcelain", "aign"], capture_output=True, text=True, check=False)
    return (got.stdout.strip() or "not committed") + (" with changes" if changed.stdout.strip() else "")


def lines(command: str, *packages: str) -> list[str]:
    """The last lines of a result."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return [
        f"- machine: {processor()}, {os.cpu_count()} logical cores; load average {os.getloadavg()[0]:.1f}",
        f"- Python {platform.python_version()}, {versions}",
        f"- date: {datetime.datetime.now(datetime.UTC):%Y-%m-%d}; commit: {commit()}",
        f"- command: `{command}`",
        "",
    ]


def publish(name: str, text: str) -> None:
    """Write a result whole or not at all."""
    RESULTS.mkdir(exist_ok=True)
    temporary = RESULTS / f"{name}.tmp"
    temporary.write_text(text)
    os.replace(temporary, RESULTS / name)


if __name__ == "__main__":
    print("\n".join(lines("python benchmarks/machine.py", "numpy", "torch")))
