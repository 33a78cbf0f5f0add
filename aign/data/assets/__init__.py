"""Pinned public assets (detector nets, a real video, motion clips): pulled without registration, checked by sha256."""

from aign.data.assets.cache import PoseNets, Row, listing, path, pose_nets, pull, verify
from aign.data.assets.table import ASSETS, Asset, Package

__all__ = ["ASSETS", "Asset", "Package", "PoseNets", "Row", "listing", "path", "pose_nets", "pull", "verify"]
