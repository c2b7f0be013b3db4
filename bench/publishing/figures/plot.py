"""A matplotlib figure that notebooks show."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class Plot(Figure):
    """A figure that belongs to no window: pyplot, and what the user has chosen there, stay out of it."""

    def as_png(self) -> bytes:
        """The figure as a PNG, the same for the same drawing."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()

    _repr_png_ = as_png
