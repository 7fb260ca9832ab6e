"""Score flows inside Spark: the columns that Spark's own `transform` would add, computed by ids in the executors.

>>> import ids_py.spark                                           # doctest: +SKIP
>>> model = ids_py.Model.from_spark("models/unsw-nb15")           # doctest: +SKIP
>>> scored = ids_py.spark.transform(spark.table("flows"), model)  # doctest: +SKIP

In batch and in Structured Streaming, on a cluster and over Spark Connect; the executors need ids-py too. Spark ships
the model with the stage, once to each executor, and each Python worker reads it once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from . import _ids
from .errors import IdsError, RowError, SchemaMismatch

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql import functions as F
    from pyspark.sql.pandas.types import to_arrow_type
    from pyspark.sql.types import (
        ArrayType,
        BinaryType,
        DoubleType,
        LongType,
        StringType,
        StructField,
        StructType,
    )
except ImportError as error:
    raise ImportError(
        f"ids_py.spark needs PySpark and pyarrow ({error}): pip install ids-py[spark]"
    ) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyspark.ml import Transformer
    from pyspark.sql import DataFrame

__all__ = ["Verification", "transform", "verdicts", "verify"]

_FAULT = StructType([StructField(name, StringType()) for name in ("outcome", "stage", "column", "detail")])
_HEADERS = ArrayType(StructType([StructField("key", StringType()), StructField("value", BinaryType())]))
#: Headers of a flow that travel on to its verdict, as in the detector.
_PASSED_ON = ("ids.seq", "ids.label", "ids.scheduled_us", "ids.malformed")

#: Bytes of a value beyond which a dead letter is cut, and what is left of it.
_LONGEST, _CUT = 900_000, 262_144


def transform(df: DataFrame, model: _ids.Model, *, errors: Literal["raise", "null"] = "raise") -> DataFrame:
    """Adds the columns that the pipeline of `model` would add at its end: summed votes, probabilities, prediction and,
    if the pipeline has an IndexToString, the name of the predicted class, under the names they have in the pipeline
    (by default rawPrediction, probability, prediction). Vectors are Spark's own, and so are all doubles, to the bit.

    Rows that a stage drops (`handleInvalid` of "skip") are dropped. A row that a stage refuses fails the job with
    `RowError`, as Spark would fail; with errors="null" no row fails and none is dropped: the new columns are null
    there, and a further column `fault` (outcome, stage, column, detail) says why.

    Raises `SchemaMismatch` where `df` lacks a column that the model takes, holds another type there, or has a column
    of a name that is to be added. Stages in between (indices, imputed numbers, features) leave no columns.
    """
    if errors not in ("raise", "null"):
        raise ValueError(f"errors must be 'raise' or 'null', not {errors!r}")
    _check_inputs(df, model)
    names = model.output_columns
    types = {
        "raw_prediction": VectorUDT(),
        "probability": VectorUDT(),
        "prediction": DoubleType(),
        "label": StringType(),
    }
    added = [StructField(name, types[key]) for key, name in names.items() if name]
    if errors == "null":
        added.append(StructField("fault", _FAULT))
    taken = [field.name for field in added if field.name in df.columns]
    if taken:
        raise SchemaMismatch(f"the table has a column `{taken[0]}` already, which is to be added", taken)
    schema = StructType([*df.schema.fields, *added])
    return _map(df, model, schema, functools.partial(_score, keep=errors == "null"))


def verdicts(
    messages: DataFrame,
    model: _ids.Model,
    *,
    verdicts: str = "demo.verdicts",
    dead_letters: str = "demo.dlq",
) -> DataFrame:
    """What a detector says of Kafka's messages, ready for Spark's Kafka sink: key, value, headers, topic, partition.

    `messages` is what Spark's Kafka source reads: flows as JSON in `value`. Each gets a verdict for the topic
    `verdicts`, byte for byte the detector's, in the partition of its message. One that has no score (it is no flow, or
    a stage drops or refuses it) gets, as from the detector, a marker among the verdicts and a dead letter: its key and
    value as they were, for the topic `dead_letters`, with headers that say why; of a value of more than 900,000 bytes,
    which with these would not fit a topic as Kafka makes them, the first 262,144 and a header `ids.cut_from_bytes`. With the
    source's option `includeHeaders` headers travel on.
    """
    lacking = [
        name
        for name in ("key", "value", "topic", "partition", "offset", "timestamp")
        if name not in messages.columns
    ]
    if lacking:
        raise SchemaMismatch(f"the messages have no column `{lacking[0]}`: read them from Kafka", lacking)
    own = F.col("headers") if "headers" in messages.columns else F.lit(None)
    messages = messages.select(
        "key", "value", "topic", "partition", "offset", "timestamp", own.cast(_HEADERS).alias("headers")
    )
    added = [
        StructField("verdict_key", BinaryType()),
        StructField("verdict", BinaryType()),
        StructField("dead_letter", _HEADERS),
    ]
    said = _map(messages, model, StructType([*messages.schema.fields, *added]), _speak)

    def message(key: Any, value: Any, headers: Any, topic: str, partition: Any) -> Any:
        columns = {
            "key": key,
            "value": value,
            "headers": headers,
            "topic": F.lit(topic),
            "partition": partition,
        }
        return F.struct(*(column.alias(name) for name, column in columns.items()))

    passed_on = F.filter("headers", lambda header: header["key"].isin(*_PASSED_ON))
    verdict = message(F.col("verdict_key"), F.col("verdict"), passed_on, verdicts, F.col("partition"))
    foreign = F.filter(
        "headers", lambda header: ~header["key"].startswith("ids.") | header["key"].isin(*_PASSED_ON)
    )
    none = F.array().cast(_HEADERS)
    length = F.length("value")
    cut_from = F.array(
        F.struct(
            F.lit("ids.cut_from_bytes").alias("key"), length.cast("string").cast("binary").alias("value")
        )
    )
    is_cut = length > _LONGEST
    why = F.concat(F.coalesce(foreign, none), F.col("dead_letter"), F.when(is_cut, cut_from).otherwise(none))
    value = F.when(is_cut, F.substring("value", 1, _CUT)).otherwise(F.col("value"))
    # In whichever partition: the topic may have fewer than that of the flows.
    dead_letter = message(F.col("key"), value, why, dead_letters, F.lit(None).cast("int"))
    outgoing = F.when(F.col("dead_letter").isNull(), F.array(verdict)).otherwise(
        F.array(dead_letter, verdict)
    )
    return said.select(F.explode(outgoing).alias("message")).select("message.*")


@dataclass(frozen=True)
class Verification:
    """What `verify` found: rows and doubles that Spark and ids have in common, and how many differ."""

    #: Rows that Spark's transform gave.
    rows: int
    #: Rows that ids gave: those that no stage drops.
    rows_here: int
    #: Doubles compared.
    doubles: int
    #: Of these, with other bits. Two NaN count as equal: Java does not say which of them it gives.
    differing_doubles: int
    #: Rows with such a double, or another label.
    differing_rows: int
    #: The columns compared.
    columns: tuple[str, ...]
    #: What the first difference is, if there is one.
    first: str | None

    @property
    def equal(self) -> bool:
        """Whether nothing differs, neither has a row that the other lacks, and there are rows at all."""
        return self.differing_rows == 0 and self.rows == self.rows_here and self.rows > 0

    def __str__(self) -> str:
        compared = f"{self.rows} rows, {self.doubles} doubles of {', '.join(self.columns)}"
        if self.equal:
            return f"equal to the bit: {compared}"
        if self.rows == self.rows_here == 0:
            return "nothing was compared: neither gives a row"
        found = f"{self.differing_doubles} doubles differ, in {self.differing_rows} rows"
        if self.rows != self.rows_here:
            found += f"; Spark gives {self.rows} rows, ids {self.rows_here}"
        first = "" if self.first is None else f". The first: {self.first}"
        return f"NOT equal: {found} ({compared}){first}"


def verify(df: DataFrame, model: _ids.Model, spark_model: Transformer) -> Verification:
    """Compares what Spark's own `spark_model` and `model` say of the rows of `df`, bit by bit, in the cluster.

    Raises `SchemaMismatch` as `transform` does, and where Spark's output has none of the columns that the model adds.
    A row that Spark refuses fails the job: that is Spark's own exception.
    """
    _check_inputs(df, model)
    theirs = spark_model.transform(df)
    names = {key: name for key, name in model.output_columns.items() if name and name in theirs.columns}
    if not names:
        raise SchemaMismatch("Spark's output has none of the columns that the model adds")
    counts = StructType(
        [StructField(name, LongType()) for name in ("rows", "doubles", "differing_doubles", "differing_rows")]
        + [StructField("first", StringType())]
    )
    compare = functools.partial(_compare, names=names)
    found = _map(theirs.select(*model.inputs, *names.values()), model, counts, compare)
    here = _map(df.select(*model.inputs), model, StructType([StructField("rows", LongType())]), _count)
    sums = [F.sum(name).alias(name) for name in counts.names[:-1]]
    row = found.agg(*sums, F.min("first").alias("first")).first()
    rows_here = here.agg(F.sum("rows")).first()
    assert row is not None and rows_here is not None  # an aggregate has a row
    return Verification(
        rows=row["rows"] or 0,
        rows_here=rows_here[0] or 0,
        doubles=row["doubles"] or 0,
        differing_doubles=row["differing_doubles"] or 0,
        differing_rows=row["differing_rows"] or 0,
        columns=tuple(names.values()),
        first=row["first"],
    )


# --- on the driver -------------------------------------------------------------------------------------------------


def _check_inputs(df: DataFrame, model: _ids.Model) -> None:
    """Has the model look at a table without rows: it names what it does not find, or not as it takes it."""
    inputs = set(model.inputs)
    fields = [field for field in df.schema.fields if field.name in inputs]
    schema = pa.schema([pa.field(field.name, to_arrow_type(field.dataType)) for field in fields])
    model.score(schema.empty_table())


def _map(
    df: DataFrame,
    model: _ids.Model,
    schema: StructType,
    work: Callable[[_ids.Model, pa.RecordBatch], pa.RecordBatch | pa.Table],
) -> DataFrame:
    """Maps the record batches of `df` to those of `schema` by `work`, in the executors."""
    shipped = _Shipped(model.to_bytes())

    def each(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = shipped.model()
        for batch in batches:
            made = work(model, batch)
            yield from made.to_batches() if isinstance(made, pa.Table) else [made]

    return df.mapInArrow(each, cast(Any, schema))


# --- in the executors ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shipped:
    """A model on its way to an executor."""

    data: bytes

    def model(self) -> _ids.Model:
        return _read(self.data)


@functools.lru_cache(maxsize=4)
def _read(data: bytes) -> _ids.Model:
    """The model of its bytes, read once by a worker that serves several tasks."""
    return _ids.Model.from_bytes(data)


def _score(model: _ids.Model, batch: pa.RecordBatch, *, keep: bool) -> pa.RecordBatch | pa.Table:
    """The batch with its scores. With `keep` every row, and why those without score have none."""
    # Those that were looked at on the driver: others may go by names that the schema knows too.
    inputs = [name for name in model.inputs if name in batch.schema.names]
    scores = model.score(batch.select(inputs), n_threads=1)
    scored = scores.scored
    if not keep:
        for fault in scores.faults:
            if fault.outcome != "dropped":
                raise RowError(
                    f"a row has no score: {fault.detail}",
                    column=fault.column,
                    stage=fault.stage,
                    outcome=fault.outcome,
                    kind=fault.kind,
                )
    made = {
        "raw_prediction": lambda: _vectors(scores.raw_prediction, scored),
        "probability": lambda: _vectors(scores.probability, scored),
        "prediction": lambda: pa.array(scores.prediction, mask=~scored),
        "label": lambda: pa.array(scores.label, pa.string()),
    }
    added = {name: made[key]() for key, name in model.output_columns.items() if name}
    if keep:
        added["fault"] = _faults(scores)
    arrays, names = [*batch.columns, *added.values()], [*batch.schema.names, *added]
    table = pa.RecordBatch.from_arrays(arrays, names)
    return table if keep or scored.all() else pa.Table.from_batches([table]).filter(pa.array(scored))


def _vectors(values: NDArray[np.float64], scored: NDArray[np.bool_]) -> pa.StructArray:
    """Dense vectors, [n_rows, n], as Spark's VectorUDT lays them out."""
    n_rows, n = values.shape
    offsets = pa.array(np.arange(n_rows + 1, dtype=np.int32) * n)
    item = pa.field("element", pa.float64(), nullable=False)
    lists = pa.ListArray.from_arrays(offsets, pa.array(values.ravel()), type=pa.list_(item))
    no_indices = pa.nulls(n_rows, pa.list_(pa.field("element", pa.int32(), nullable=False)))
    return pa.StructArray.from_arrays(
        [pa.array(np.ones(n_rows, np.int8)), pa.nulls(n_rows, pa.int32()), no_indices, lists],
        fields=[
            pa.field("type", pa.int8()),
            pa.field("size", pa.int32()),
            pa.field("indices", no_indices.type),
            pa.field("values", lists.type),
        ],
        mask=pa.array(~scored),
    )


def _faults(scores: _ids.Scores) -> pa.StructArray:
    names = _FAULT.names
    rows: list[dict[str, str | None] | None] = [None] * len(scores)
    for fault in scores.faults:
        rows[fault.row] = {name: getattr(fault, name) for name in names}
    return pa.array(rows, pa.struct([pa.field(name, pa.string()) for name in names]))


_MESSAGE = pa.schema(
    [
        ("value", pa.binary()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", pa.timestamp("us", "UTC")),
    ]
)


def _speak(model: _ids.Model, batch: pa.RecordBatch) -> pa.RecordBatch | pa.Table:
    # Spark may send text and bytes in Arrow's large form.
    messages = pa.Table.from_batches([batch.select(_MESSAGE.names)]).cast(_MESSAGE)
    said = pa.table(cast(Any, _ids.verdicts(model, messages))).combine_chunks()
    if said.num_rows == 0:
        columns = [pa.array([], field.type) for field in said.schema]
    else:
        columns = [column.chunk(0) for column in said.columns]
    names = [*batch.schema.names, "verdict_key", "verdict", "dead_letter"]
    return pa.RecordBatch.from_arrays([*batch.columns, *columns], names)


def _count(model: _ids.Model, batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"rows": [int(model.score(batch, n_threads=1).scored.sum())]})


def _compare(model: _ids.Model, batch: pa.RecordBatch, *, names: dict[str, str]) -> pa.RecordBatch:
    scores = model.score(batch.select(model.inputs), n_threads=1)
    differs = np.zeros(len(scores), bool)
    n_doubles = n_differing = 0
    first = None
    for key, name in names.items():
        column, ours = batch.column(name), getattr(scores, key)
        if key == "label":
            wrong = np.array(column.to_pylist(), object) != ours
        else:
            theirs = _doubles(column)
            if theirs.size != ours.size:
                raise IdsError(
                    f"column `{name}` of Spark's output has {theirs.size} doubles, not {ours.size}"
                )
            different = ~_same(theirs.reshape(ours.shape), ours)
            n_doubles += different.size
            n_differing += int(different.sum())
            wrong = different if different.ndim == 1 else different.any(axis=1)
        if first is None and wrong.any():
            row = int(wrong.argmax())
            flow = batch.select(model.inputs).slice(row, 1).to_pylist()[0]
            first = f"{name} of {flow}: Spark has {column[row].as_py()}, ids {ours[row]}"
        differs |= wrong
    found = {
        "rows": [len(scores)],
        "doubles": [n_doubles],
        "differing_doubles": [n_differing],
        "differing_rows": [int(differs.sum())],
        "first": pa.array([first], pa.string()),
    }
    return pa.RecordBatch.from_pydict(found)


def _doubles(column: Any) -> NDArray[np.float64]:
    """The doubles of a column of doubles or dense vectors, one after the other."""
    if pa.types.is_struct(column.type):
        column = pc.list_flatten(column.field("values"))
    return cast("NDArray[np.float64]", column.to_numpy(zero_copy_only=False))


def _same(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.bool_]:
    left, right = np.ascontiguousarray(left), np.ascontiguousarray(right)
    same: NDArray[np.bool_] = left.view(np.uint64) == right.view(np.uint64)
    return same | (np.isnan(left) & np.isnan(right))
