"""Score network flows with the random forest that PySpark trained: Spark's doubles bit for bit, without a JVM.

>>> from ids_py import Model
>>> model = Model.from_spark("models/unsw-nb15-small")
>>> model
Model(version='...', schema='unsw-nb15', 50 trees of depth 6, 42 features, 10 classes)
>>> model.predict("testdata/synthetic-unsw-nb15.csv")[:3]
array(['Generic', 'Exploits', 'Fuzzers'], dtype='<U14')

`Model` scores, `train` makes one without Spark, `read_flows` reads files as a detector does, `evaluate` compares with
labels, `ids_py.kafka` produces and detects. What can go wrong is in `ids_py.errors`.
"""

# The errors first: the native module looks them up.
from . import errors
from ._ids import Fault, Flows, Model, Schema, Scores, __version__, read_flows, train
from .errors import (
    ConfigError,
    DecodeError,
    IdsError,
    KafkaError,
    ModelFileError,
    ModelImportError,
    RowError,
    SchemaError,
    SchemaMismatch,
    TrainingError,
)
from .evaluation import Evaluation, evaluate

__all__ = [
    "ConfigError",
    "DecodeError",
    "Evaluation",
    "Fault",
    "Flows",
    "IdsError",
    "KafkaError",
    "Model",
    "ModelFileError",
    "ModelImportError",
    "RowError",
    "Schema",
    "SchemaError",
    "SchemaMismatch",
    "Scores",
    "TrainingError",
    "__version__",
    "errors",
    "evaluate",
    "read_flows",
    "train",
]
