"""What all drawn figures share: colours, and a figure that no window system knows of."""

from typing import Any

INK, QUIET, FAINT = "#1b1f24", "#6b7280", "#e5e7eb"
"""Text, what is said beside, lines behind."""
METHOD_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's palette, in the order methods take it."""


def new_figure(width_in: float, height_in: float, dpi: int = 100) -> Any:
    """A white figure that no window system or global state knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    return figure
