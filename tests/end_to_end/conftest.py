"""The pipelines' Ray, here too."""

from tests.pipelines.conftest import ray_cluster

__all__ = ["ray_cluster"]
