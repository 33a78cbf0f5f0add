"""Every renderer P: known, differentiable, without parameters."""
