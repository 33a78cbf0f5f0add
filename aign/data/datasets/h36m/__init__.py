"""Human3.6M in each of the layouts it is passed around in."""
