"""Places: local paths made absolute, because Ray's workers have other working directories."""

from pathlib import Path


def absolute(url: str) -> str:
    """A URL with a scheme as it is, a local path made absolute."""
    return url if "://" in url else str(Path(url).expanduser().absolute())


def is_url(place: str) -> bool:
    """Whether a place is elsewhere than in a folder."""
    return "://" in place
