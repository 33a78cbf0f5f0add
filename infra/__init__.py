"""Where it runs: settings from the environment, and the Ray cluster."""
