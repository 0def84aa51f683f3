"""What rich draws, safe for the terminal; a module of its own, for rich is imported only where it draws."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from wtsbench.visible import LINES, visible


class ShownConsole(Console):
    """A console that shows control characters of the text it is given; colours and cursor are its own business."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich does it, with every text made visible, and no link: only a text of others could hold one."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            if control:
                yield segment
            else:
                yield Segment(visible(text, LINES), style.update_link(None) if style and style.link else style)
