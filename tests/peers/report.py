"""What was measured, as a table and as a figure."""


def heading(report):
    """What was swept and where, in two lines."""
    where = report["machine"] + (f", {report['n_threads']} threads" if report["device"] == "cpu" else "")
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    n_cells = report["n_layers"] * report["n_columns"]
    return (
        f"{report['model']}, {report['dtype']}, {report['n_tokens']} tokens, {report['n_layers']} layers x "
        f"{report['n_columns']} positions = {n_cells} cells; {where}",
        versions,
    )


def digits(number, n=3):
    """Three significant digits, without an exponent."""
    return f"{float(f'{number:.{n}g}'):,.10g}"


def table(report):
    head = ["", "ms a cell", "grid, s", "times Patchboard", "cells", "difference"]
    rows = [
        [
            row["what"],
            digits(row["secs_per_cell"] * 1e3),
            digits(row["grid_secs"]),
            digits(row["factor"]) if "factor" in row else "-",
            str(row["n_cells_measured"]),
            f"{row['max_abs_diff']:.1e}" + ("" if row["agrees"] else " (!)") if "agrees" in row else "",
        ]
        for row in report["rows"]
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    lines = []
    for name, *numbers in [head, *rows]:
        lines.append("  ".join([name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:])]))
    lines += ["", f"best of {report['n_rounds']} rounds; the peers' grids are worked out from the cells that were measured"]
    if report["patchboard_rounds"]:
        best = {key: min(each[key] for each in report["patchboard_rounds"]) for key in ("sweep_secs", "command_secs")}
        lines.append(
            f"`patchboard sweep`: {best['sweep_secs']:.2f} s for the sweep with all that it reports, "
            f"{best['command_secs']:.2f} s for the command, reading the model included"
        )
    for name, library in report["left_out"].items():
        lines.append(f"left out: {name}, the package {library} is not installed")
    return "\n".join([*heading(report), "", *lines])


def draw(report, path):
    import matplotlib

    matplotlib.use("svg")
    # The same figure is the same file.
    matplotlib.rcParams["svg.hashsalt"] = "patchboard"
    from matplotlib import pyplot

    rows = sorted(report["rows"], key=lambda row: row["secs_per_cell"], reverse=True)
    millis = [row["secs_per_cell"] * 1e3 for row in rows]
    colours = ["#156082" if row["name"] == "patchboard" else "#b8c4cc" for row in rows]
    figure, axes = pyplot.subplots(figsize=(9, 0.5 * len(rows) + 1.6), layout="constrained")
    bars = axes.barh([row["what"] for row in rows], millis, color=colours, height=0.7)
    factors = ["" if row["name"] == "patchboard" else f"   {digits(row['factor'], 2)} ×" for row in rows]
    labels = [f"{digits(ms)} ms{factor}" for ms, factor in zip(millis, factors)]
    axes.bar_label(bars, labels, padding=4)
    axes.set_xscale("log")
    axes.set_xlim(min(millis) / 3, max(millis) * 6)
    axes.xaxis.set_major_formatter(lambda ms, _: f"{ms:g}")
    axes.set_xlabel("milliseconds a cell (log scale), and the whole grid's time over Patchboard's (×)", loc="right")
    axes.invert_yaxis()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.suptitle("\n".join(heading(report)), fontsize=8, x=0.01, ha="left")
    figure.savefig(path, metadata={"Date": None})
