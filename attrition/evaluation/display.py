"""Tables of strings for a terminal and for a notebook, without a rendering library."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    Row = Sequence[str]

_STYLE = "text-align:left;padding:2px 10px"


def text_table(title: str, header: Row, rows: Sequence[Row]) -> str:
    """A title and left-aligned columns, one line per row.

    Examples
    --------
    >>> print(text_table("Team", ("name", "n"), [("sales", "12")]))
    Team
    name   n
    -----  --
    sales  12
    """
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    cells = [header, ["-" * width for width in widths], *rows]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([title, *table])


def html_table(title: str, header: Row, rows: Sequence[Row]) -> str:
    """The same table as HTML; every cell is escaped."""
    head = "".join(f'<th style="{_STYLE}">{escape(cell)}</th>' for cell in header)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_STYLE}">{escape(cell)}</td>' for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<table><caption style="{_STYLE}">{escape(title)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def html_figure(png: bytes, alt: str) -> str:
    """A picture as HTML that needs no file beside it."""
    return f'<img alt="{escape(alt)}" width="420" src="data:image/png;base64,{b64encode(png).decode("ascii")}">'
