"""Runs notebooks against a lake and looks at what they show.

    python notebooks/check.py LAKE [OUTPUT_FOLDER]

Every cell must run, every one that draws must have a picture with something in it, and every notebook at least three. What
`checks/NAME.py` asserts of a notebook's results is run after its last cell. Then the notebooks must come through lakes that hold a
few rows, no rows, or not even the datasets, and say what is missing.
"""

import base64
import contextlib
import io
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.image
import matplotlib.pyplot
import nbformat
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).parent


def colours(png: bytes) -> int:
    """Distinct colours of a picture: a blank one, or one of empty axes, has few."""
    pixels = matplotlib.image.imread(io.BytesIO(png), format="png")
    return len({tuple(p) for p in (pixels[::3, ::3, :3] * 255).astype("uint8").reshape(-1, 3)})


def check(path: Path, output: Path | None) -> None:
    """Runs a notebook as a reader would, and what is asserted of it."""
    began = time.monotonic()
    notebook = nbformat.read(path, as_version=4)
    asserted = HERE / "checks" / f"{path.stem}.py"
    if asserted.exists():
        notebook.cells.append(nbformat.v4.new_code_cell(asserted.read_text()))
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}})
    try:
        client.execute()
    except CellExecutionError as error:
        sys.exit(f"{path.name}: a cell failed, or what is asserted of its results doesn't hold:\n{error}")
    pictures = 0
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        found = [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
        if "plt.show()" in cell.source and not found:
            said = "".join(o.get("text", "") for o in cell.outputs)
            if "missing:" not in said:
                sys.exit(f"{path.name}: a cell that draws shows no picture and doesn't say what is missing:\n{cell.source}")
            print(f"{path.name}: {said.strip()}")
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
    print(f"{path.name}: {pictures} pictures, {tables} tables, {time.monotonic() - began:.0f} s")


def cut(lake: Path, to: Path, rows: int, without: tuple[str, ...] = ()) -> None:
    """A lake of the same datasets with at most so many rows each."""
    for dataset in sorted(p for p in lake.iterdir() if (p / "_delta_log").is_dir() and p.name not in without):
        table = QueryBuilder().register("t", DeltaTable(str(dataset)))
        write_deltalake(str(to / dataset.name), table.execute(f"SELECT * FROM t LIMIT {rows}").read_all())


def rehearse(path: Path, lake: Path, what: str, says: bool = True) -> None:
    """Runs a notebook's code in this process, which is quicker than a kernel, on a lake that lacks what it wants and where it must say so."""
    os.environ["HITHERTO_LAKE"] = str(lake)
    sys.modules.pop("lake", None)
    code = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            exec(compile(code, path.name, "exec"), {"__name__": "notebook"})
    except BaseException as error:
        sys.exit(f"{path.name}: fails on a lake {what}: {type(error).__name__}: {error}")
    finally:
        matplotlib.pyplot.close("all")
    if says and "missing:" not in said.getvalue():
        sys.exit(f"{path.name}: doesn't say what is missing on a lake {what}")


def main() -> None:
    lake = Path(sys.argv[1]).resolve()
    output = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    os.environ["HITHERTO_LAKE"] = str(lake)
    if output:
        output.mkdir(parents=True, exist_ok=True)
        for old in output.glob("[0-9]*.png"):
            old.unlink()
    notebooks = sorted(HERE.glob("[0-9]*.ipynb"))
    for path in notebooks:
        check(path, output)

    matplotlib.use("agg")
    sys.path.insert(0, str(HERE))
    folder = Path(tempfile.mkdtemp(prefix="hitherto-lake-"))
    try:
        for rows, without in [(3, ()), (0, ()), (0, ("signal", "module", "order_event", "health_check", "regime_state"))]:
            short = folder / f"{rows}-{len(without)}"
            short.mkdir()
            cut(lake, short, rows, without)
            for path in notebooks:
                rehearse(path, short, f"of {rows} rows a dataset" + (f" and without {', '.join(without)}" if without else ""), says=rows == 0)
        nothing = folder / "nothing"
        nothing.mkdir()
        for path in notebooks:
            rehearse(path, nothing, "without any dataset")
    finally:
        shutil.rmtree(folder)
    print(f"{len(notebooks)} notebooks come through lakes that lack what they want")


if __name__ == "__main__":
    main()
