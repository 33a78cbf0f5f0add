"""A captured motion as the files that other programs open: AMASS, BVH, GLB, TRC, CSV."""
