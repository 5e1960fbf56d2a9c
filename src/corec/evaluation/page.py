"""The results as one HTML file that needs no other: tables, the plot, and crops side by side."""

import base64
import html
from collections.abc import Sequence

from corec.evaluation import bench
from corec.evaluation.results import Results
from corec.evaluation.rows import Measured
from corec.evaluation.tables import Table, number
from corec.picture import read_picture

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; }
body { max-width: 1280px; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; }
h2 { margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #e3e3e3; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid #888; }
td.ours, th.ours { font-weight: 600; color: #c2185b; }
img.plot { width: 100%; height: auto; }
.crops { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; width: 192px; }
figure img { width: 192px; image-rendering: pixelated; display: block; background: #eee; }
figcaption { font-size: .85rem; line-height: 1.3; padding-top: .3rem; }
footer { margin-top: 3rem; color: #666; font-size: .85rem; }
"""
RULE = (
    "No file has one byte more than is allowed for this very picture, all that Corec adds to it included. Figures are "
    "of 8-bit pixels that came out of the file, and means are of the pictures' figures."
)


def page(results: Results, tables: Sequence[Table], plot: bytes) -> str:
    """The whole page. tables and plot (PNG) are those of the results."""
    count = len(results.images)
    title = f"{results.name}: {count} picture{'s' if count > 1 else ''} at equal bytes"
    ours = {
        name for name in results.request.contenders if any(row.model for row in results.rows if row.contender == name)
    }
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{html.escape(RULE)}</p>",
        f'<img class="plot" alt="Quality over rate" src="{embedded(plot)}">',
        table_of(tables[0], ours),
        *crops(results),
        *(table_of(table, ours) for table in tables[1:]),
        f"<footer>{html.escape(', '.join(f'{name} {version}' for name, version in results.versions.items()))}</footer>",
    ]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(parts) + "\n</body></html>\n"


def table_of(table: Table, ours: set[str]) -> str:
    """A table; what Corec made stands out."""

    def cell(tag: str, text: str, stands_out: bool) -> str:
        kind = ' class="ours"' if stands_out else ""
        return f"<{tag}{kind}>{html.escape(text)}</{tag}>"

    head = "".join(cell("th", text, text in ours) for text in table.head)
    rows = ""
    for row in table.rows:
        cells = zip(row, table.head, strict=True)
        rows += f"<tr>{''.join(cell('td', text, row[0] in ours or column in ours) for text, column in cells)}</tr>"
    note = f"<p>{html.escape(table.note)}</p>" if table.note else ""
    return (
        f"<h2>{html.escape(table.title)}</h2>{note}"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def crops(results: Results) -> list[str]:
    """The middle of some pictures as every contender shows it, by picture and target."""
    bounds = {target.name: target.bound for target in results.request.targets}
    shown: dict[tuple[str, str], list[Measured]] = {}
    for measured in results.measured:
        if measured.crop:
            shown.setdefault((measured.row.image, bounds[measured.row.target]), []).append(measured)
    parts = []
    for (image, bound), found in shown.items():
        path = results.request.folder / image
        original = read_picture(path)
        original = original.luma() if results.request.gray else original
        figures = [figure(bench.png(bench.middle(original.pixels)), "original", "")]
        for measured in found:
            row = measured.row
            figures.append(figure(measured.crop, row.contender, f"{row.bytes:,} bytes, {number(row.psnr)} dB"))
        parts.append(f"<h2>{html.escape(f'{image}, {bound}')}</h2>")
        parts.append(f'<div class="crops">{"".join(figures)}</div>')
    return parts


def figure(png: bytes, name: str, facts: str) -> str:
    caption = f"<b>{html.escape(name)}</b><br>{html.escape(facts)}"
    return f'<figure><img alt="{html.escape(name)}" src="{embedded(png)}"><figcaption>{caption}</figcaption></figure>'


def embedded(png: bytes) -> str:
    """A PNG file as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
