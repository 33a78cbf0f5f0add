"""Faces with exact labels: MakeHuman's CC0 head, people drawn at random, and a renderer."""
