"""Tasks: each is one module that builds an `Aign`. Tasks never import one another."""
