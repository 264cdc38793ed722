"""The information bottleneck of a table from the command line: `python -m ntkinfo bottleneck table.csv`.

Rows are X, columns are Y, entries counts or probabilities. Writes the curve, which of its points are certified, and
which rows go together, by their names.
"""

import dataclasses
import time
import warnings
from pathlib import Path

import numpy as np

from ntkinfo._cli import arguments, output
from ntkinfo._cli.arguments import option
from ntkinfo._common import csv as csv_files
from ntkinfo._common import tables

_CAPTIONS = {
    "curve.png": "What a summary Z of the rows tells about the columns, against what it tells about the rows: nothing "
    "lies above the line. Each point is the best summary at one trade-off β.",
    "clusters.png": "Which row goes into which cluster, with which probability.",
}
# Numbers of clusters whose members are listed, and names in one line of the printed table.
_LISTED = 6
_NAMES = 12
_ROWS = 12
_NAME_LENGTH = 24


@dataclasses.dataclass(frozen=True)
class Options(arguments.OutputOptions):
    """The options of the job."""

    path: Path = option(
        None, arguments.path, "a .csv: a line of column names, rows that may begin with a name; counts or "
        "probabilities", positional=True,
    )  # fmt: skip
    row_names: str = option(
        "auto", None, "whether the first column holds names; auto: where it is text, or has no heading", group="table",
        choices=("auto", "yes", "no"),
    )  # fmt: skip
    betas: str = option(
        "1:300:40", None, "trade-offs: first:last:number, log-spaced, or numbers with commas", also=("beta",)
    )
    clusters: int | None = option(
        None, arguments.integer(1, 10**6), "clusters at most, which leaves out the certificate", also=("n_clusters",),
        default_text="as many as rows",
    )  # fmt: skip
    show: int | None = option(
        None, arguments.integer(1, 10**6), "number of clusters of clusters.png",
        default_text="the most of those listed that are fewer than the rows",
    )  # fmt: skip
    unit: str = option("bits", None, "of figures and of the printed table", group="output", choices=("nats", "bits"))
    out: Path = arguments.out_option("ntkinfo-bottleneck")


@dataclasses.dataclass(frozen=True)
class Table:
    """A table with its names.

    Attributes:
      p_xy: joint distribution, (x, y).
      rows: names of the rows.
      columns: names of the columns.
      n: number of counts; None for probabilities.
    """

    p_xy: np.ndarray
    rows: list[str]
    columns: list[str]
    n: int | None


def run(options: Options) -> None:
    """Prints the curve and the clusters, and writes the folder."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from ntkinfo import bottleneck, plot

    started = time.perf_counter()
    betas = arguments.grid("--betas", options.betas)
    output.require_figures()
    table = read(options.path, options.row_names)
    out = output.Output.of(options, "bottleneck", ("curve.csv", "assignments.csv", *_CAPTIONS, *output.PAGES))
    curve = bottleneck.ib(table.p_xy, betas, certificate=options.clusters is None, n_clusters=options.clusters)
    shown = listed(curve)
    text = "\n\n".join([curve_table(curve, options.unit), *(members(curve, i, table) for i in shown)])
    print(text, flush=True)
    out.write("curve.csv", lambda path: _frame(curve).to_csv(path, index=False))
    out.write("assignments.csv", lambda path: _assignments(curve, shown, table).to_csv(path, index=False))
    out.figure("curve.png", plot.bottleneck(curve, unit=options.unit).figure)
    if shown:
        counts = np.asarray(curve.n_clusters)
        # As many clusters as rows say nothing that the table does not.
        summaries = [i for i in shown if counts[i] < len(table.rows)] or shown
        chosen = next((i for i in shown if counts[i] == options.show), summaries[-1])
        if options.show is not None and counts[chosen] != options.show:
            warnings.warn(f"No point of the curve has {options.show} clusters; {counts[chosen]} are drawn.",
                          stacklevel=2)  # fmt: skip
        out.figure("clusters.png", _heat_map(curve, chosen, table))
    out.page(_page(curve, table, text, shown, options, time.perf_counter() - started))
    print(out.finish())


def read(path: Path, row_names: str = "auto") -> Table:
    """The joint distribution in a .csv, with its names.

    Raises:
      OSError: no such file.
      ValueError: no table of numbers that are not negative, fewer than two rows or columns.
    """
    import pandas as pd

    if not path.is_file():
        raise FileNotFoundError(f"PATH must be a .csv file; there is no file {path}")
    try:
        separator = csv_files.separator(path)
        lines = pd.read_csv(path, sep=separator, header=None, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{path.name} cannot be read as CSV: {error}") from error
    cells = lines.to_numpy(dtype=object)
    if separator == ";":
        cells = np.vectorize(csv_files.with_decimal_point, otypes=[object])(cells)
    header = not all(map(_is_number, cells[0]))
    names, body = (list(cells[0]), cells[1:]) if header else ([f"y{j}" for j in range(cells.shape[1])], cells)
    if not len(body):
        raise ValueError(f"{path.name} must have rows of numbers below its names; it has none.")
    has_names = row_names == "yes" or (
        row_names == "auto" and ((header and not names[0].strip()) or not all(map(_is_number, body[:, 0])))
    )
    rows = [str(cell) for cell in body[:, 0]] if has_names else [f"x{i}" for i in range(len(body))]
    if has_names:
        names, body = names[1:], body[:, 1:]
    elif header and row_names == "auto" and _is_numbering(body[:, 0]):
        warnings.warn(
            f"The first column of {path.name}, {names[0]!r}, numbers its rows, and is taken for counts. Pass "
            "--row-names yes if it names them, or no if it counts.",
            stacklevel=2,
        )
    if not body.shape[1]:
        raise ValueError(
            f"{path.name} must have columns of numbers, with commas, semicolons or tabulators between; its "
            f"lines are like {arguments.shown(rows[0])}."
        )
    for i, j in np.ndindex(body.shape):
        if not _is_number(body[i, j]):
            raise ValueError(
                f"{path.name} must hold numbers; row {rows[i]!r}, column {names[j]!r} holds "
                f"{arguments.shown(str(body[i, j]))}. Write 0 where nothing was counted."
            )
    values = body.astype(float)
    if not np.isfinite(values).all() or (values < 0).any():
        i, j = np.argwhere(~(np.isfinite(values) & (values >= 0)))[0]
        raise ValueError(
            f"{path.name} must hold counts or probabilities, from 0 on; row {rows[i]!r}, column {names[j]!r} holds "
            f"{body[i, j]}."
        )
    for what, axis, called in (("rows", 1, rows), ("columns", 0, names)):
        empty = [called[i] for i in np.flatnonzero(values.sum(axis=axis) == 0)]
        if empty:
            warnings.warn(f"The {what} {_joined(empty)} of {path.name} are all 0 and left out.", stacklevel=2)
    kept_rows, kept_columns = values.sum(axis=1) > 0, values.sum(axis=0) > 0
    values = values[kept_rows][:, kept_columns]
    if min(values.shape, default=0) < 2:
        raise ValueError(f"{path.name} must have two rows and two columns with entries above 0; got {values.shape}.")
    total = values.sum()
    # Counts are whole numbers; a table of probabilities sums to one.
    counted = bool((values == np.round(values)).all()) and total > 1.5
    if not counted and abs(total - 1) > 1e-3:
        raise ValueError(
            f"{path.name} must hold counts, which are whole numbers, or probabilities, which sum to 1; they sum to "
            f"{total:.6g}."
        )
    return Table(
        values / total, [r for r, k in zip(rows, kept_rows, strict=True) if k],
        [c for c, k in zip(names, kept_columns, strict=True) if k], int(total) if counted else None,
    )  # fmt: skip


def _is_number(text) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return str(text).isascii()


def _is_numbering(cells) -> bool:
    """Whether cells are 0, 1, 2, ... or 1, 2, 3, ...: what an index looks like."""
    numbers = [float(cell) if _is_number(cell) else -1.0 for cell in cells]
    return numbers in ([float(i + start) for i in range(len(numbers))] for start in (0, 1))


def listed(curve) -> list[int]:
    """Points whose clusters are told: for each number of clusters from 2 on the one of largest β on the hull."""
    counts, hull, beta = (np.asarray(getattr(curve, name)) for name in ("n_clusters", "on_hull", "beta"))
    best = {}
    for i in np.argsort(beta):
        if hull[i] and counts[i] > 1:
            best[int(counts[i])] = int(i)
    return [best[count] for count in sorted(best)][:_LISTED]


def curve_table(curve, unit: str) -> str:
    """Selected points of the curve, information in `unit`."""
    scale = tables.factor(unit)
    order = np.argsort(np.asarray(curve.beta))
    order = order[np.unique(np.linspace(0, len(order) - 1, _ROWS).round().astype(int))]
    head = "".join(f"{title:>12}" for title in ("beta", "I(X;Z)", "I(Z;Y)", "clusters", "gap", "certified"))
    lines = [f"{head}   [{unit}]"]
    for i in order:
        numbers = [float(curve.beta[i]), scale * float(curve.i_xz[i]), scale * float(curve.i_zy[i])]
        cells = "".join(f"{number:>12.4g}" for number in numbers) + f"{int(curve.n_clusters[i]):>12}"
        gap = "-" if curve.gap is None else f"{scale * float(curve.gap[i]):.2g}"
        lines.append(f"{cells}{gap:>12}{_certified(curve, i):>12}")
    lines.append(f"I(X;Y) = {scale * float(curve.i_xy):.4g} {unit}")
    return "\n".join(lines)


def _certified(curve, i) -> str:
    return "not asked" if curve.certified is None else "yes" if bool(curve.certified[i]) else "no"


def members(curve, i: int, table: Table) -> str:
    """The clusters at one point: their mass, their rows and what they say about the columns."""
    encoder = np.asarray(curve.encoder[i])
    lines = [f"{int(curve.n_clusters[i])} clusters (beta {float(curve.beta[i]):.4g}):"]
    for z in range(int(curve.n_clusters[i])):
        order = np.argsort(-encoder[:, z], kind="stable")
        inside = [
            table.rows[x] + ("" if encoder[x, z] > 0.995 else f" ({encoder[x, z]:.2f})")
            for x in order
            if encoder[x, z] > 0.5 or (encoder[x, z] > 0.05 and encoder[x].argmax() == z)
        ]
        likely = np.argsort(-np.asarray(curve.decoder[i, z]), kind="stable")[:3]
        says = ", ".join(f"{table.columns[y]} {float(curve.decoder[i, z, y]):.2f}" for y in likely)
        lines.append(f"  {z + 1}: mass {float(curve.prior[i, z]):.3f}; {_joined(inside)}; {says}")
    return "\n".join(lines)


def _joined(names: list[str]) -> str:
    shortened = [name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 3]}..." for name in names]
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return (", ".join(shortened[:_NAMES]) or "no row for the most part") + more


def _frame(curve):
    """The whole curve in nats."""
    import pandas as pd

    names = ("beta", "i_xz", "i_zy", "n_clusters", "gap", "certified", "on_hull", "converged")
    return pd.DataFrame({n: np.asarray(getattr(curve, n)) for n in names if getattr(curve, n) is not None})


def _assignments(curve, shown, table: Table):
    """p(z|x) of the points told, a row for each row of the table and cluster."""
    import pandas as pd

    rows = []
    for i in shown:
        encoder, count, beta = np.asarray(curve.encoder[i]), int(curve.n_clusters[i]), float(curve.beta[i])
        rows += [(count, beta, row, z + 1, float(p[z])) for row, p in zip(table.rows, encoder, strict=True)
                 for z in range(count)]  # fmt: skip
    return pd.DataFrame(rows, columns=["n_clusters", "beta", "row", "cluster", "probability"])


def _heat_map(curve, i: int, table: Table):
    """p(z|x) at one point, rows sorted by cluster."""
    import matplotlib.pyplot as plt

    encoder = np.asarray(curve.encoder[i])[:, : int(curve.n_clusters[i])]
    order = np.lexsort((-encoder.max(axis=1), encoder.argmax(axis=1)))
    figure, ax = plt.subplots(
        figsize=(3.2 + 0.5 * encoder.shape[1], min(2.0 + 0.22 * len(order), 20)), layout="constrained"
    )
    image = ax.imshow(encoder[order], aspect="auto", cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
    ax.set_xticks(range(encoder.shape[1]), [str(z + 1) for z in range(encoder.shape[1])])
    if len(order) <= 80:
        ax.set_yticks(range(len(order)), [_joined([table.rows[x]]) for x in order], size="small")
    else:
        ax.set_ylabel("rows, by cluster")
    ax.set_xlabel("cluster")
    ax.set_title(rf"$\beta$ = {float(curve.beta[i]):.3g}", size="small")
    figure.colorbar(image, ax=ax, label="$p(z|x)$")
    return figure


def _page(curve, table: Table, text: str, shown, options: Options, seconds: float) -> str:
    scale = tables.factor(options.unit)
    n_rows, n_columns = table.p_xy.shape
    of_what = "probabilities" if table.n is None else f"{table.n} counts"
    lines = ["# The information bottleneck", "",
             f"{options.path.name}: {n_rows} rows (X), {n_columns} columns (Y), {of_what}. {seconds:.0f} s.", "",
             "A summary Z of the rows forgets what does not help to tell the columns. The larger β is, the more of "
             f"what the rows tell about the columns, I(X;Y) = {scale * float(curve.i_xy):.4g} {options.unit}, is kept.",
             ""]  # fmt: skip
    if table.n is not None:
        chance = (n_rows - 1) * (n_columns - 1) / (2 * table.n)
        lines += [f"The counts are taken for the true frequencies. Of so few, independent rows and columns would show "
                  f"about {scale * chance:.2g} {options.unit} by chance (Miller 1955).", ""]  # fmt: skip
    lines += ["![curve](curve.png)", "", _CAPTIONS["curve.png"], "", "## Points and clusters", "", "```", text, "```"]
    if curve.certified is not None:
        share = int(np.sum(np.asarray(curve.certified)))
        lines += ["", f"{share} of {len(curve.beta)} points are certified: the gap is then proven to bound how far the "
                  "value of I(X;Z) - β I(Z;Y) lies above the global optimum. For others it comes from the largest "
                  "violation that a search found."]  # fmt: skip
    if shown:
        lines += ["", "![clusters](clusters.png)", "", _CAPTIONS["clusters.png"]]
    lines += ["", "`curve.csv` holds every point in nats, `assignments.csv` p(z|x) of the points told.", "",
              f"Options: {arguments.line(options)}.", ""]  # fmt: skip
    return "\n".join(lines)
