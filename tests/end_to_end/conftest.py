"""The pipelines' Ray and quick gates, here too."""

from tests.pipelines.conftest import quick_gates, ray_cluster

__all__ = ["quick_gates", "ray_cluster"]
