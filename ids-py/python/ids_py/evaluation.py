"""How well predictions agree with labels: the plain figures of `ids evaluate`, for notebooks."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from . import _ids

if TYPE_CHECKING:
    import matplotlib.axes
    import pandas

__all__ = ["Evaluation", "evaluate"]


class Evaluation:
    """The figures of an evaluation; printed, a table.

    Definitions are scikit-learn's: where a precision or recall has nothing to divide by it is 0; `macro_f1` is the
    plain mean over the classes that occur.
    """

    #: Labelled rows that were scored: those that count.
    rows: int
    #: Share of rows whose class is predicted right.
    accuracy: float
    #: Mean F1 of the classes that occur.
    macro_f1: float
    #: Share of benign flows called an attack.
    false_alarm_rate: float
    #: Share of attacks called an attack, of whatever class.
    attack_recall: float
    #: Per class: class, precision, recall, f1, support.
    classes: list[dict[str, Any]]
    #: Rows by actual class (outer) and predicted class (inner).
    confusion: list[list[int]]
    #: Rows that are not counted: they have no score, no label, or a label that is none of the model's classes.
    unscored: int
    unlabelled: int
    unknown: int
    #: Why the first of the rows without score has none.
    first_fault: str | None

    def __init__(
        self,
        figures: dict[str, Any],
        text: str,
        unscored: int,
        first_fault: str | None,
        unlabelled: int,
        unknown: int,
    ) -> None:
        self._figures = figures
        self._text = text
        self.__dict__.update(figures)
        self.unscored = unscored
        self.first_fault = first_fault
        self.unlabelled = unlabelled
        self.unknown = unknown

    def to_dict(self) -> dict[str, Any]:
        """The figures as a dict: those of `ids evaluate --json`, without intervals."""
        return copy.deepcopy(self._figures)

    def to_frame(self) -> pandas.DataFrame:
        """The figures by class: precision, recall, f1, support, with the classes as index."""
        import pandas

        return pandas.DataFrame(self.classes).rename(columns={"class": "label"}).set_index("label")

    def confusion_frame(self) -> pandas.DataFrame:
        """Rows by actual class (index) and predicted class (columns)."""
        import pandas

        names = [figures["class"] for figures in self.classes]
        index, columns = pandas.Index(names, name="actual"), pandas.Index(names, name="predicted")
        return pandas.DataFrame(self.confusion, index=index, columns=columns)

    def plot(self, ax: matplotlib.axes.Axes | None = None, *, normalize: bool = True) -> matplotlib.axes.Axes:
        """Draws the confusion matrix; each cell is its share of the actual class, or the rows themselves.

        Needs matplotlib: `pip install ids-py[plot]`.
        """
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError("a plot needs matplotlib: pip install ids-py[plot]") from error

        if ax is None:
            _, ax = plt.subplots(figsize=(7, 6), layout="constrained")
        names = [figures["class"] for figures in self.classes]
        shares = [[count / max(sum(row), 1) for count in row] for row in self.confusion]
        ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        ax.set_xticks(range(len(names)), names, rotation=45, ha="right")
        ax.set_yticks(range(len(names)), names)
        ax.set_xlabel("predicted")
        ax.set_ylabel("actual")
        for i, row in enumerate(self.confusion):
            for j, count in enumerate(row):
                if count:
                    text = f"{shares[i][j]:.2f}" if normalize else str(count)
                    colour = "white" if shares[i][j] > 0.5 else "black"
                    ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=8)
        title = f"macro-F1 {self.macro_f1:.3f}, false alarms {100 * self.false_alarm_rate:.2f} %, {self.rows} rows"
        ax.set_title(title, fontsize=10)
        return ax

    def _left_out(self) -> list[str]:
        lines = []
        if self.unscored:
            lines.append(f"{self.unscored} rows have no score; the first: {self.first_fault}")
        if self.unlabelled:
            lines.append(f"{self.unlabelled} rows have no label and are not counted")
        if self.unknown:
            lines.append(f"{self.unknown} rows have a label that the model does not know and are not counted")
        return lines

    def __str__(self) -> str:
        return "\n".join([self._text, *self._left_out()])

    def __repr__(self) -> str:
        return (
            f"Evaluation({self.rows} rows, accuracy={self.accuracy:.4f}, macro_f1={self.macro_f1:.4f}, "
            f"false_alarm_rate={self.false_alarm_rate:.4f}, attack_recall={self.attack_recall:.4f})"
        )

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"


def evaluate(
    model: _ids.Model,
    data: Any,
    labels: Iterable[str | None] | None = None,
    *,
    n_threads: int | None = None,
) -> Evaluation:
    """Compares the predictions of `model` with labels.

    `data` is whatever `Model.score` takes. The labels are those of the data, in the label column of the model's
    schema, unless `labels` gives a class name for each row: for assembled features it must. Rows without score,
    without label or with an unknown one are not counted, but told.

    Raises what `Model.score` raises, and `SchemaMismatch` where no row can be counted.

    >>> from ids_py import Model, evaluate
    >>> report = evaluate(Model.from_spark("models/unsw-nb15-small"), "testdata/synthetic-unsw-nb15.csv")
    >>> report.rows, round(report.macro_f1, 3)
    (9000, 0.488)
    """
    figures, text, unscored, first_fault, unlabelled, unknown = _ids.evaluate_json(
        model, data, labels, n_threads
    )
    return Evaluation(json.loads(figures), text, unscored, first_fault, unlabelled, unknown)
