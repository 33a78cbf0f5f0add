"""Write the golden losses anew: python -m tests.golden.renew. The commit that does so says why they changed."""

import json
import tempfile
from pathlib import Path

from tests.conftest import build_demo_store
from tests.golden.runs import build_human36m_store, families, losses, path, store_of


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        demo, human36m = build_demo_store(f"{folder}/store"), build_human36m_store(Path(folder) / "human36m")
        for name, made in families().items():
            store = store_of(name, demo, human36m)
            rounded = {key: [float(f"{v:.7g}") for v in values] for key, values in losses(made, store).items()}
            path(name).write_text(json.dumps(rounded, indent=1) + "\n")
            print(path(name))


if __name__ == "__main__":
    main()
