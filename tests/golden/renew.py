"""Write golden losses anew: python -m tests.golden.renew [NAME ...]. The commit that does so says why they changed."""

import json
import sys
import tempfile
from pathlib import Path

from tests.conftest import PEOPLE, build_demo_store, build_people_store
from tests.golden.runs import HUMAN36M, MOCAP, build_human36m_store, families, losses, path


def main(names: list[str]) -> None:
    made = families()
    with tempfile.TemporaryDirectory() as folder:
        make = {
            HUMAN36M: lambda: build_human36m_store(Path(folder) / "human36m"),
            MOCAP: lambda: build_people_store(f"{folder}/people", PEOPLE),
        }
        demo = build_demo_store(f"{folder}/store")
        for name in names or made:
            store = make[name]() if name in make else demo
            rounded = {key: [float(f"{v:.7g}") for v in values] for key, values in losses(made[name], store).items()}
            path(name).write_text(json.dumps(rounded, indent=1) + "\n")
            print(path(name))


if __name__ == "__main__":
    main(sys.argv[1:])
