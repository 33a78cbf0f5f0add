"""Faces as an AIGN (Tung et al., ICCV 2017): biased super-resolution and biased inpainting ("plastic surgery").

G imagines the picture that a smaller or a masked one comes from; P makes it smaller again, or masks it, and is held to
the input; the critic compares it with a memory of faces that a declared bias has chosen (`bias`), unpaired with any
input. Both tasks live in this one package: they share bias, memory, feed and critic, and tasks import no other task.
"""
