"""The only home of MLflow: runs, packages, aliases, gates."""
