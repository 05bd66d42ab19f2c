"""A text beside columns of numbers and categories: one label of several, or a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tunemerge.tasks import table_controls, word_controls
from tunemerge.tasks.kinds.table_classification import TableClassification, TableClassificationOptions
from tunemerge.tasks.kinds.table_regression import TableRegression, TableRegressionOptions
from tunemerge.tasks.task import TASKS, KindControl
from tunemerge.tasks.text_table import TEXT, TextTableKind, on_both, on_columns, on_texts


class TextTableClassificationOptions(TableClassificationOptions):
    """A text, columns, and one label of several."""

    text: str = TEXT


class TextTableRegressionOptions(TableRegressionOptions):
    """A text, columns, and a number."""

    text: str = TEXT


_TREES = KindControl(
    on_columns(table_controls.boosted_trees), "Gradient-boosted trees on the columns alone, no checkpoint."
)


class TextTableClassification(TextTableKind, TableClassification):
    """Rows have a `text`, columns of numbers and categories, and a `label`; a prediction is one logit a label.

    `base` is a text encoder: it becomes the tower that reads the text, beside a small one that reads the columns.
    """

    name = "text-table-classification"
    Options = TextTableClassificationOptions
    controls: ClassVar[Mapping[str, KindControl]] = {
        "both_linear": KindControl(on_both, "Logistic regression on words and columns, no checkpoint."),
        "columns_linear": KindControl(
            on_columns(table_controls.linear), "Logistic regression on the columns alone, no checkpoint."
        ),
        "tfidf_linear": KindControl(
            on_texts(word_controls.logistic), "Logistic regression on words and pairs of words alone, no checkpoint."
        ),
        "columns_trees": _TREES,
    }


class TextTableRegression(TextTableKind, TableRegression):
    """Rows have a `text`, columns of numbers and categories, and a `value`; a prediction is one number in the unit of
    the data. The model is that of text-table-classification, with one output."""

    name = "text-table-regression"
    Options = TextTableRegressionOptions
    controls: ClassVar[Mapping[str, KindControl]] = {
        "both_linear": KindControl(on_both, "Ridge regression on words and columns, no checkpoint."),
        "columns_linear": KindControl(
            on_columns(table_controls.linear), "Ridge regression on the columns alone, no checkpoint."
        ),
        "tfidf_linear": KindControl(
            on_texts(word_controls.ridge), "Ridge regression on words and pairs of words alone, no checkpoint."
        ),
        "columns_trees": _TREES,
    }


for _kind in (TextTableClassification, TextTableRegression):
    TASKS.add(_kind.name, _kind())
