"""What can go wrong. Everything is an `IdsError`; files that cannot be read raise Python's own `OSError`s, and an
argument of a type that is no input at all raises `TypeError`."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "ConfigError",
    "DecodeError",
    "IdsError",
    "KafkaError",
    "ModelFileError",
    "ModelImportError",
    "RowError",
    "SchemaError",
    "SchemaMismatch",
    "TrainingError",
]


class IdsError(Exception):
    """The base of all errors of this package."""


class _AtRow(IdsError, ValueError):
    """An error of one row: `row` counts from 0, the others are None where they do not apply."""

    def __init__(
        self,
        message: str,
        row: int | None = None,
        column: str | None = None,
        stage: str | None = None,
        outcome: str | None = None,
        kind: str | None = None,
    ) -> None:
        super().__init__(message)
        self.row = row
        self.column = column
        self.stage = stage
        self.outcome = outcome
        self.kind = kind


class DecodeError(_AtRow):
    """A row is no flow: a value of the wrong type, a column that is absent, bytes that are no JSON."""


class RowError(_AtRow):
    """A stage of the pipeline drops or refuses a row, so that it has no score. Spark drops it or fails there."""


class SchemaMismatch(IdsError, ValueError):
    """Input does not have what the model takes: a column is missing or of another type, an array has another
    number of features. `columns` names the columns at fault."""

    def __init__(self, message: str, columns: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.columns = tuple(columns)


class SchemaError(IdsError, ValueError):
    """A schema file is not valid."""


class ModelImportError(IdsError, ValueError):
    """What Spark saved cannot be scored: it is damaged, or has a stage that is not supported."""


class ModelFileError(IdsError, ValueError):
    """A model file is damaged, truncated or no model file."""


class ConfigError(IdsError, ValueError):
    """A setting cannot work."""


class TrainingError(IdsError, ValueError):
    """A model cannot be trained so, or on these flows."""


class KafkaError(IdsError):
    """Kafka cannot be reached, refused an operation, or lacks a topic."""
