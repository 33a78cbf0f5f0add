"""The runs of faces whose first losses are kept, on toy faces: python -m tests.golden.faces_runs writes them anew."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

from aign.data.store import Store
from aign.recipes.tasks import Recipe
from tests.distributed import faces_ranks
from tests.golden.runs import losses
from tests.tasks.toy_faces import toy_store

STEPS = 20
FOLDER = Path(__file__).parent / "faces"


def families() -> dict[str, Recipe]:
    """Every term, the critic with patches and its penalty; by name."""
    return {
        name: replace(made, fit=replace(made.fit, steps=STEPS, log_every=1, validate_every=STEPS))
        for name, made in faces_ranks.recipes().items()
    }


def build_store(folder: Path) -> Store:
    """Toy faces of 32 px."""
    return toy_store(str(folder), count=128)


def main() -> None:
    """The commit that does so says why they changed."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        store = build_store(Path(folder))
        for name, made in families().items():
            rounded = {key: [float(f"{v:.7g}") for v in values] for key, values in losses(made, store).items()}
            (FOLDER / f"{name}.json").write_text(json.dumps(rounded, indent=1) + "\n")
            print(FOLDER / f"{name}.json")


if __name__ == "__main__":
    main()
