"""Write the golden losses anew: python -m tests.golden.renew. The commit that does so says why they changed."""

import json
import tempfile

from tests.conftest import build_demo_store
from tests.golden.runs import families, losses, path


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = build_demo_store(f"{folder}/store")
        for name, made in families().items():
            rounded = {key: [float(f"{v:.7g}") for v in values] for key, values in losses(made, store).items()}
            path(name).write_text(json.dumps(rounded, indent=1) + "\n")
            print(path(name))


if __name__ == "__main__":
    main()
