"""Adversarial Inverse Graphics Networks: explain x by z = G(x) so that P(z) looks like x and z looks real."""

__version__ = "0.1.0"
