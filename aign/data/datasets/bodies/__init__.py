"""Pictures with measured or rendered bodies: SURREAL, 3DPW, MPI-INF-3DHP."""
