"""Runs notebooks against a lake and looks at what they show.

    python notebooks/check.py LAKE [OUTPUT_FOLDER]

Every code cell that draws must have a picture with something in it, and every notebook at least three.
"""

import base64
import io
import os
import sys
from pathlib import Path

import matplotlib.image
import nbformat
from nbclient import NotebookClient


def colours(png: bytes) -> int:
    """Distinct colours of a picture: a blank one, or one of empty axes, has few."""
    pixels = matplotlib.image.imread(io.BytesIO(png), format="png")
    return len({tuple(p) for p in (pixels[::3, ::3, :3] * 255).astype("uint8").reshape(-1, 3)})


def check(path: Path, output: Path | None) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
    pictures = 0
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        found = [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
        if "plt.show()" in cell.source and not found:
            sys.exit(f"{path.name}: a cell that draws shows no picture:\n{cell.source}")
        for picture in found:
            png = base64.b64decode(picture)
            if colours(png) < 12:
                sys.exit(f"{path.name}: a picture is empty:\n{cell.source}")
            pictures += 1
            if output:
                (output / f"{path.stem}-{pictures}.png").write_bytes(png)
    tables = sum("text/html" in o.get("data", {}) for c in notebook.cells if c.cell_type == "code" for o in c.outputs)
    if pictures < 3 or tables < 3:
        sys.exit(f"{path.name}: {pictures} pictures and {tables} tables, fewer than 3 of each")
    print(f"{path.name}: {pictures} pictures, {tables} tables")


def main() -> None:
    lake = Path(sys.argv[1]).resolve()
    output = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    os.environ["HITHERTO_LAKE"] = str(lake)
    if output:
        output.mkdir(parents=True, exist_ok=True)
    for path in sorted(Path(__file__).parent.glob("[0-9]*.ipynb")):
        check(path, output)


main()
