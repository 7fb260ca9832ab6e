"""Draws a dashboard as Grafana lays it out, of what Prometheus answers to the dashboard's own expressions."""

import re

import matplotlib.pyplot as plt
from matplotlib.ticker import EngFormatter, FuncFormatter, PercentFormatter

# To files, not to a screen.
plt.switch_backend("Agg")

UNITS = {
    "reqps": EngFormatter(unit="/s", sep=""),
    "Bps": EngFormatter(unit="B/s", sep=" "),
    "bytes": EngFormatter(unit="B", sep=" "),
    "decmbytes": FuncFormatter(lambda value, _: f"{value:g} MB"),
    "s": EngFormatter(unit="s", sep=" "),
    "percentunit": PercentFormatter(1),
    "short": EngFormatter(sep=""),
}
COLUMN, ROW = 0.42, 0.24


def lines(panel, ask, start, end, step):
    """Legend, times and values of each line of a panel; times are minutes from the start."""
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", "30s")
        for line in ask("query_range", query=expression, start=start, end=end, step=step):
            legend = re.sub(
                r"{{(\w+)}}", lambda found: line["metric"].get(found.group(1), ""), target["legendFormat"]
            )
            times, values, before = [], [], None
            for time, value in line["values"]:
                # Where nothing was told there is no line.
                if before is not None and time - before > 1.5 * step:
                    times.append((before - start) / 60)
                    values.append(float("nan"))
                times.append((time - start) / 60)
                values.append(float(value))
                before = time
            yield legend, times, values


def draw(dashboard, ask, start, end, path, step=2):
    """Draws a dashboard into a file; titles of the panels without a line."""
    panels, empty = dashboard["panels"], []
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = plt.figure(figsize=(24 * COLUMN, height * ROW))
    figure.suptitle(
        f"{dashboard['title']} (minutes)",
        x=0.01,
        y=1 - 0.08 / (height * ROW),
        ha="left",
        va="top",
        fontsize=11,
    )
    # A margin around each panel, and room for the title of the whole.
    top = 1 - 0.35 / (height * ROW)
    for panel in panels:
        place = panel["gridPos"]
        box = (
            (place["x"] + 1.3) / 24,
            top * (1 - (place["y"] + place["h"] - 1.1) / height),
            (place["w"] - 1.6) / 24,
            top * (place["h"] - 2.3) / height,
        )
        axes = figure.add_axes(box)
        axes.set_title(panel["title"], fontsize=8, loc="left", pad=3)
        n = 0
        for n, (legend, times, values) in enumerate(lines(panel, ask, start, end, step), start=1):
            axes.plot(times, values, linewidth=0.9, label=legend)
        if n == 0:
            empty.append(panel["title"])
        axes.set_xlim(0, (end - start) / 60)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(UNITS[panel["fieldConfig"]["defaults"]["unit"]])
        axes.tick_params(labelsize=6, length=2)
        axes.grid(linewidth=0.3, alpha=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if n:
            axes.legend(fontsize=5.5, frameon=False, ncols=2 if n > 4 else 1, loc="best")
    figure.savefig(path, dpi=88)
    plt.close(figure)
    return empty
