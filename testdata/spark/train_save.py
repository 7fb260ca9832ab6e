"""Train and save example spark.ml models with the Spark at hand, and record what Spark answers, to the bit.

    python train_save.py --data DATA [--only PATTERN] [--every N] OUT
    python train_save.py --data DATA --connect OUT
    python train_save.py --rescore OUT [--every N]

OUT/<case> is what `save` wrote, without checksums and `_SUCCESS` markers, which copies through object
stores lose too. OUT/<case>.golden.jsonl is what `transform` returned, one row a line: doubles and floats as
C99 hexadecimal (`float.hex`), vectors dense or sparse as Spark returned them. OUT/errors.json says what
Spark makes of bad input, OUT/notes.json which versions ran. DATA is what make_data.py wrote.

Works with PySpark 2.4 to 4.3. A rerun makes an equivalent tree, not the same bytes: uids, times, the names
of part files and default seeds change, the goldens do not.

`--connect` adds OUT/connect_pipeline, saved through Spark Connect (4.0 or later; its client is the `connect`
extra of the package). `--rescore` loads the models that another Spark saved in OUT and scores the rows of
their goldens with the Spark at hand; where the answer is another one, it writes
OUT/<case>.by-<version>.golden.jsonl.
"""

import argparse
import fnmatch
import json
import math
import os
import re
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np
import pyspark
from pyspark.ml import Estimator, Pipeline, PipelineModel, Transformer, classification, feature, regression
from pyspark.ml.classification import (
    DecisionTreeClassifier,
    GBTClassifier,
    RandomForestClassificationModel,
    RandomForestClassifier,
)
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.feature import (
    PCA,
    Binarizer,
    Bucketizer,
    ChiSqSelector,
    ElementwiseProduct,
    FeatureHasher,
    Imputer,
    IndexToString,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    PolynomialExpansion,
    QuantileDiscretizer,
    RFormula,
    SQLTransformer,
    StandardScaler,
    StringIndexer,
    VectorAssembler,
    VectorIndexer,
    VectorSlicer,
)
from pyspark.ml.linalg import DenseVector, SparseVector, Vectors, VectorUDT
from pyspark.ml.regression import DecisionTreeRegressor, GBTRegressor, RandomForestRegressor
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    BooleanType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
)

VERSION = tuple(int(part) for part in pyspark.__version__.split(".")[:2])
# The OneHotEncoder of Spark 2 is another, stateless stage.
OneHotEncoderOfSpark3 = OneHotEncoder if VERSION >= (3, 0) else feature.OneHotEncoderEstimator
NAN, INF = float("nan"), float("inf")
THINNED_FROM_BYTES = 60_000


def struct_of(**types):
    """A schema by column name and type."""
    return StructType([StructField(name, kind()) for name, kind in types.items()])


FLOW = struct_of(
    duration=DoubleType,
    src_bytes=LongType,
    dst_bytes=DoubleType,
    cnt=IntegerType,
    rate=FloatType,
    land=DoubleType,
    const=DoubleType,
    logged_in=BooleanType,
    proto=StringType,
    service=StringType,
    flag=StringType,
    label=StringType,
    weight=DoubleType,
)
DENSE = struct_of(features=VectorUDT, label=DoubleType, bin=DoubleType, weight=DoubleType, target=DoubleType)
SCALARS = struct_of(s=StringType, d=DoubleType, i=IntegerType, f=FloatType)
NUMERIC = ["duration", "src_bytes", "dst_bytes", "cnt", "rate", "land", "const", "logged_in"]
TEXT = ["proto", "service", "flag"]
CLASS_INDICES = {"normal": 0.0, "dos": 1.0, "probe": 2.0}

# What the scalers are fitted on: plain columns, zeros, a huge value, a constant, subnormals.
VECTORS = [
    Vectors.dense([1.5, 0.0, -3.0, 7.0, 3.25, 1e-310]),
    Vectors.dense([0.1, 0.0, 2.0, 7.0, 3.25, 0.0]),
    Vectors.dense([-2.5, 0.0, 0.3, 9.0, 3.25, 3e-310]),
    Vectors.sparse(6, [0, 3, 4], [4.75, 8.0, 3.25]),
    Vectors.dense([1 / 3.0, 0.0, 2 / 7.0, 1e6, 3.25, 0.0]),
]
EDGE_VECTORS = VECTORS + [
    Vectors.dense([NAN] * 6),
    Vectors.dense([INF, -INF, INF, 0.0, -0.0, 0.0]),
    Vectors.sparse(6, [], []),
    Vectors.sparse(6, [0, 1, 4], [NAN, 5.0, 1.0]),
    Vectors.dense([0.7, 1.0, -1e-3, 123456.789, 4.0, 1e-310]),
]
# Two categorical features and a continuous one, then unseen values, implicit zeros, -0.0 and NaN.
CATEGORIES = [
    Vectors.dense([1.0, 2.0, 10.0]),
    Vectors.dense([-1.0, 3.0, 20.0]),
    Vectors.dense([0.0, 2.0, 30.0]),
    Vectors.dense([1.0, 5.0, 40.0]),
]
EDGE_CATEGORIES = [
    Vectors.dense([1.0, 2.0, 10.0]),
    Vectors.sparse(3, [0, 1, 2], [-1.0, 5.0, 3.0]),
    Vectors.sparse(3, [2], [9.0]),
    Vectors.dense([0.0, 0.0, 1.0]),
    Vectors.dense([2.0, 3.0, 1.0]),
    Vectors.dense([-0.0, 2.0, 1.0]),
    Vectors.dense([NAN, 2.0, 1.0]),
    Vectors.sparse(3, [1], [4.0]),
]
SCALAR_ROWS = [
    ("a", 1.0, 2, 1.5),
    ("b", 2.0, 3, NAN),
    ("a", NAN, 3, 0.1),
    (None, None, None, None),
    ("c", 1e10, -7, 1e-5),
    ("b", 1.0, 3, 100.0),
    ("B", -0.0, 100, 123456789.125),
    ("", 0.0, 5, 0.3),
]
EDGE_SCALAR_ROWS = [
    ("a", 1.0, 2, 1.5),
    ("zz", 3.0, 9, NAN),
    (None, None, None, None),
    ("c", 1e10, -7, 1e-5),
    ("", 0.0, 5, 0.3),
    ("B", -0.0, 100, 0.1),
    ("b", NAN, 3, 100.0),
]


def start_spark(scratch):
    """A local session of one thread, so that rows keep their order."""
    os.environ["SPARK_LOCAL_HOSTNAME"] = "localhost"
    spark = (
        SparkSession.builder.master("local[1]")
        .appName("ids-fixtures")
        .config("spark.driver.memory", "1g")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.warehouse.dir", str(scratch / "warehouse"))
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def exact(cell):
    """A cell as JSON that loses nothing."""
    if cell is None or isinstance(cell, (bool, str)):
        return cell
    if isinstance(cell, DenseVector):
        return {"t": "dense", "v": [float(value).hex() for value in cell.values]}
    if isinstance(cell, SparseVector):
        indices, values = [int(i) for i in cell.indices], [float(value).hex() for value in cell.values]
        return {"t": "sparse", "n": int(cell.size), "i": indices, "v": values}
    if isinstance(cell, (int, np.integer)):
        return int(cell)
    return float(cell).hex()


def from_exact(cell, kind):
    """The cell of a column of this type that `exact` made this JSON of."""
    if cell is None or isinstance(kind, (StringType, BooleanType, IntegerType, LongType)):
        return cell
    if isinstance(kind, VectorUDT):
        values = [float.fromhex(value) for value in cell["v"]]
        return Vectors.dense(values) if cell["t"] == "dense" else Vectors.sparse(cell["n"], cell["i"], values)
    return float.fromhex(cell)


def write_golden(path, frame, every=1):
    """All rows of a frame, of a large file only every so many."""
    lines = [json.dumps({name: exact(row[name]) for name in frame.columns}) + "\n" for row in frame.collect()]
    is_large = sum(len(line) for line in lines) > THINNED_FROM_BYTES
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines[:: every if is_large else 1])


def clean(directory):
    """Delete the checksums and markers that Spark writes beside the data."""
    for path in list(directory.rglob("*.crc")) + list(directory.rglob("_SUCCESS")):
        path.unlink()


class Fixtures:
    """The cases, the frames that they share, and where they go."""

    def __init__(self, spark, data, out, only, every):
        self.spark, self.out, self.only, self.every = spark, out, only, every
        self.notes = {}
        self.train, self.test = (self.flows(data / name) for name in ("train.jsonl", "test.jsonl"))
        self.dense_train = self.frame(self.dense_rows(self.train, -1.0), DENSE).cache()
        self.test_vectors = [row[0].values for row in self.dense_rows(self.test, NAN)]
        self.label_indexer = StringIndexer(inputCol="label", outputCol="label_i").fit(self.train)

    # Frames

    def frame(self, rows, schema):
        """Rows in one partition, which keeps their order."""
        return self.spark.createDataFrame(rows, schema).coalesce(1)

    def vectors(self, values, name="features"):
        """One column of vectors."""
        return self.frame([(value,) for value in values], struct_of(**{name: VectorUDT}))

    def doubles(self, values):
        """One column of doubles, `x`."""
        return self.frame([(value,) for value in values], struct_of(x=DoubleType))

    def flows(self, path):
        """A file that make_data.py wrote."""
        if not path.is_file():
            sys.exit(f"{path} not found: make_data.py makes it")
        rows = []
        for line in path.open(encoding="utf-8"):
            flow = json.loads(line)
            if flow["duration"] == "NaN":
                flow["duration"] = NAN
            rows.append(tuple(flow[field.name] for field in FLOW.fields))
        return self.frame(rows, FLOW)

    def dense_rows(self, frame, missing):
        """The numeric columns as one vector, with the targets of the tree models."""
        rows = []
        for row in frame.collect():
            values = [NAN if row[name] is None else float(row[name]) for name in NUMERIC]
            values = [missing if math.isnan(value) else value for value in values]
            is_attack = 0.0 if row["label"] == "normal" else 1.0
            target = values[1] * 0.25 + values[4]
            rows.append(
                (Vectors.dense(values), CLASS_INDICES[row["label"]], is_attack, row["weight"], target)
            )
        return rows

    def edge_rows(self, model):
        """The test vectors, and values on and one ulp around stored thresholds, infinite, zero and subnormal.

        Every vector twice, dense and sparse.
        """
        nodes = self.spark.read.parquet(str(self.out / model / "data"))
        split = "nodeData.split" if "nodeData" in nodes.columns else "split"
        splits = nodes.select(
            F.col(f"{split}.featureIndex").alias("feature"),
            F.col(f"{split}.leftCategoriesOrThreshold").alias("values"),
            F.col(f"{split}.numCategories").alias("categories"),
        ).where("feature >= 0")
        continuous = [row for row in splits.collect() if row["categories"] == -1][:60]

        vectors = [np.array(vector, dtype=float) for vector in self.test_vectors[:120]]
        for number, row in enumerate(continuous, 1):
            threshold = row["values"][0]
            for value in (threshold, np.nextafter(threshold, INF), np.nextafter(threshold, -INF)):
                vector = np.array(self.test_vectors[number % len(self.test_vectors)], dtype=float)
                vector[row["feature"]] = value
                vectors.append(vector)
        for value in (NAN, INF, -INF, 0.0, -0.0, 5e-324, -5e-324, 1e308):
            vectors.append(np.full(len(NUMERIC), value))
            vector = np.array(self.test_vectors[0], dtype=float)
            vector[1] = value
            vectors.append(vector)

        both = []
        for vector in vectors:
            stored = [i for i, value in enumerate(vector) if value != 0]  # NaN too
            both.append(Vectors.dense(vector))
            both.append(Vectors.sparse(len(vector), stored, [float(vector[i]) for i in stored]))
        return self.vectors(both)

    # Cases

    def save(self, model, name):
        """Write a model below the output directory."""
        model.write().overwrite().save(str(self.out / name))

    def golden(self, name, scored):
        """Write what Spark returned."""
        write_golden(self.out / f"{name}.golden.jsonl", scored, self.every)

    def case(self, name, make, *arguments):
        """Run a case; one that fails is noted and does not stop the others."""
        if not any(fnmatch.fnmatch(name, pattern) for pattern in self.only):
            return
        try:
            make(*arguments)
            self.notes[name] = "ok"
        except Exception as error:  # whatever a version of Spark raises
            self.notes[name] = f"{type(error).__name__}: {str(error)[:400]}"
            traceback.print_exc(limit=2)

    def stage(self, name, stage, train=None, test=None):
        """One stage: fitted if it has to be, saved, applied."""

        def make():
            is_estimator = isinstance(stage, Estimator)
            model = (
                stage.fit(self.vectors(VECTORS, "in") if train is None else train) if is_estimator else stage
            )
            self.save(model, name)
            self.golden(name, model.transform(self.vectors(EDGE_VECTORS, "in") if test is None else test))

        self.case(name, make)

    def trees(self, name, estimator):
        """A model of trees on numeric features, and its edge rows."""

        def make():
            model = estimator.fit(self.dense_train)
            self.save(model, name)
            self.golden(name, model.transform(self.edge_rows(name)))

        self.case(name, make)

    def rf_dense(self):
        """A forest, the same with thresholds, and the same in every form that its files may have."""
        forest = RandomForestClassifier(numTrees=20, maxDepth=6, seed=7, labelCol="label").fit(
            self.dense_train
        )
        self.save(forest, "rf_dense")
        rows = self.edge_rows("rf_dense")
        scored = forest.transform(rows)
        self.golden("rf_dense", scored)
        scored.write.mode("overwrite").parquet(str(self.out / "rf_dense.golden.parquet"))
        thresholds = {"rf_thresholds": [0.5, 0.2, 0.3], "rf_threshold_zero": [0.5, 0.0, 0.3]}
        for name, values in thresholds.items():
            with_thresholds = forest.copy({forest.thresholds: values})
            self.save(with_thresholds, name)
            self.golden(name, with_thresholds.transform(rows))

        settings = self.spark.conf
        settings.set("spark.sql.files.maxRecordsPerFile", "97")
        self.save(forest, "rf_multipart")
        settings.set("spark.sql.files.maxRecordsPerFile", "0")

        codecs = {"none": "none", "gzip": "gzip"}
        if VERSION >= (3, 2):  # before, zstd needs Hadoop's native library
            codecs["zstd"] = "zstd"
        if VERSION >= (3, 5):
            codecs["lz4raw"] = "lz4_raw" if VERSION >= (4, 0) else "lz4raw"
        for name, codec in codecs.items():
            settings.set("spark.sql.parquet.compression.codec", codec)
            self.save(forest, f"rf_codec_{name}")
        settings.set("spark.sql.parquet.compression.codec", "snappy")

        settings.set("spark.sql.parquet.writeLegacyFormat", "true")
        self.save(forest, "rf_legacyformat")
        settings.set("spark.sql.parquet.writeLegacyFormat", "false")

        hadoop = self.spark.sparkContext._jsc.hadoopConfiguration()
        hadoop.set("parquet.writer.version", "v2")
        self.save(forest, "rf_pagev2")
        hadoop.unset("parquet.writer.version")
        compress = "mapreduce.output.fileoutputformat.compress"
        hadoop.set(compress, "true")
        hadoop.set(f"{compress}.codec", "org.apache.hadoop.io.compress.GzipCodec")
        self.save(forest, "rf_gzmeta")
        hadoop.set(compress, "false")
        hadoop.unset(f"{compress}.codec")

    def tree_models(self):
        """Every model of trees on numeric features but rf_dense."""
        if VERSION >= (3, 0):
            weighted = dict(
                weightCol="weight", impurity="entropy", featureSubsetStrategy="all", subsamplingRate=0.8
            )
            self.trees(
                "rf_weighted",
                RandomForestClassifier(numTrees=15, maxDepth=5, seed=11, labelCol="label", **weighted),
            )
            self.trees(
                "rf_leafcol",
                RandomForestClassifier(numTrees=5, maxDepth=4, seed=3, labelCol="label", leafCol="leaf"),
            )
        self.trees("dt", DecisionTreeClassifier(maxDepth=5, labelCol="label"))
        self.trees("dtr", DecisionTreeRegressor(maxDepth=5, labelCol="target"))
        self.trees("rfr", RandomForestRegressor(numTrees=13, maxDepth=5, seed=5, labelCol="target"))
        boosting = dict(maxIter=11, maxDepth=3, seed=5, stepSize=0.3)
        self.trees("gbt", GBTClassifier(labelCol="bin", **boosting))
        self.trees("gbtr", GBTRegressor(labelCol="target", **boosting))

    def rf_cat(self):
        """A forest with categorical splits; it does not raise on values that are no category."""
        stages = [StringIndexer(inputCol=name, outputCol=f"{name}_i", handleInvalid="keep") for name in TEXT]
        inputs = ["proto_i", "service_i", "flag_i", "cnt"]
        stages.append(VectorAssembler(inputCols=inputs, outputCol="features"))
        index = F.when(F.col("label") == "normal", 0.0).when(F.col("label") == "dos", 1.0).otherwise(2.0)
        train = Pipeline(stages=stages).fit(self.train).transform(self.train).withColumn("y", index)
        forest = RandomForestClassifier(numTrees=10, maxDepth=5, seed=9, labelCol="y").fit(train)
        self.save(forest, "rf_cat")
        vectors = [[a, b, c, 7.0 * a + b] for a in range(4) for b in range(7) for c in range(5)]
        for value in (4.0, 7.0, 99.0, -1.0, 0.5, 1.5, -0.0, NAN, INF, 1e300, 2147483648.0):
            for position in range(3):
                vector = [1.0, 1.0, 1.0, 3.0]
                vector[position] = value
                vectors.append(vector)
        self.golden("rf_cat", forest.transform(self.vectors([Vectors.dense(vector) for vector in vectors])))

    # Pipelines. They are scored as in production: without the label.

    def pipeline_basic(self):
        """One stage of each usual kind."""
        features = ["proto_i", "service_i", "duration_f", "src_bytes", "dst_bytes_f"] + NUMERIC[3:]
        imputed = ["duration", "dst_bytes"]
        stages = [
            self.label_indexer,
            StringIndexer(inputCol="proto", outputCol="proto_i", handleInvalid="keep"),
            StringIndexer(inputCol="service", outputCol="service_i", handleInvalid="keep"),
            Imputer(inputCols=imputed, outputCols=[f"{name}_f" for name in imputed]),
            VectorAssembler(inputCols=features, outputCol="raw_features"),
            StandardScaler(inputCol="raw_features", outputCol="features", withMean=False, withStd=True),
            RandomForestClassifier(
                numTrees=20, maxDepth=6, seed=7, labelCol="label_i", featuresCol="features"
            ),
            IndexToString(
                inputCol="prediction", outputCol="predicted_label", labels=self.label_indexer.labels
            ),
        ]
        model = Pipeline(stages=stages).fit(self.train)
        self.save(model, "pipeline_basic")
        scored = model.transform(self.test.drop("label", "weight"))
        self.golden("pipeline_basic", scored)
        scored.write.mode("overwrite").parquet(str(self.out / "pipeline_basic.golden.parquet"))

    def pipeline_full(self):
        """More kinds of stages than anybody needs."""
        order = dict(handleInvalid="keep", stringOrderType="alphabetDesc")
        indexed, imputed = [f"{name}_i" for name in TEXT], ["duration", "dst_bytes"]
        if VERSION >= (3, 0):
            indexers = [StringIndexer(inputCols=TEXT, outputCols=indexed, **order)]
        else:
            indexers = [StringIndexer(inputCol=a, outputCol=b, **order) for a, b in zip(TEXT, indexed)]
        if VERSION >= (3, 1):
            selector = feature.UnivariateFeatureSelector(
                featuresCol="v2", outputCol="features", labelCol="label_i", selectionMode="numTopFeatures"
            )
            selector.setFeatureType("continuous").setLabelType("categorical").setSelectionThreshold(10)
        else:
            columns = dict(featuresCol="v2", outputCol="features", labelCol="label_i")
            selector = ChiSqSelector(numTopFeatures=10, **columns)
        features = ["proto_v", "service_v", "flag_i", "duration_f", "src_b", "dst_bytes_f"] + NUMERIC[3:]
        stages = [
            self.label_indexer,
            *indexers,
            OneHotEncoderOfSpark3(
                inputCols=["proto_i", "service_i"],
                outputCols=["proto_v", "service_v"],
                handleInvalid="keep",
                dropLast=True,
            ),
            Imputer(inputCols=imputed, outputCols=[f"{name}_f" for name in imputed], strategy="median"),
            Bucketizer(
                splits=[-INF, 0.5, 100.0, 1000.0, INF],
                inputCol="src_bytes",
                outputCol="src_b",
                handleInvalid="keep",
            ),
            VectorAssembler(inputCols=features, outputCol="v0", handleInvalid="keep"),
            MinMaxScaler(inputCol="v0", outputCol="v1", min=-1.0, max=2.0),
            VectorIndexer(inputCol="v1", outputCol="v2", maxCategories=6, handleInvalid="keep"),
            selector,
            RandomForestClassifier(
                numTrees=20, maxDepth=6, seed=7, labelCol="label_i", featuresCol="features", maxBins=64
            ),
            IndexToString(
                inputCol="prediction", outputCol="predicted_label", labels=self.label_indexer.labels
            ),
        ]
        model = Pipeline(stages=stages).fit(self.train)
        self.save(model, "pipeline_full")
        self.golden("pipeline_full", model.transform(self.test.drop("label", "weight")))

    def pipeline_nested_cv(self):
        """A pipeline of a pipeline and a cross-validated forest, for the layout only."""
        inner = Pipeline(
            stages=[
                StringIndexer(inputCol="proto", outputCol="proto_i"),
                VectorAssembler(inputCols=["proto_i", "cnt", "rate"], outputCol="features"),
            ]
        )
        forest = RandomForestClassifier(numTrees=3, maxDepth=3, seed=1, labelCol="label_i")
        search = CrossValidator(
            estimator=forest,
            estimatorParamMaps=ParamGridBuilder().addGrid(forest.maxDepth, [2, 3]).build(),
            evaluator=MulticlassClassificationEvaluator(labelCol="label_i"),
            numFolds=2,
            seed=1,
        )
        model = Pipeline(stages=[inner, search]).fit(self.label_indexer.transform(self.train))
        self.save(model, "pipeline_nested_cv")

    def st_rformula(self):
        """A formula, which saves a pipeline of its own."""
        columns = ["proto", "service", "cnt", "rate"]
        train = self.train.select("label", *columns).withColumnRenamed("label", "y")
        model = RFormula(formula="y ~ proto + service + cnt + rate", handleInvalid="keep").fit(train)
        self.save(model, "st_rformula")
        self.golden("st_rformula", model.transform(self.test.select(*columns)))

    # Single stages

    def vector_stages(self):
        """Stages from vectors to vectors."""
        io = dict(inputCol="in", outputCol="out")
        self.stage("st_std", StandardScaler(**io))
        self.stage("st_std_mean", StandardScaler(withMean=True, **io))
        self.stage("st_mean_only", StandardScaler(withMean=True, withStd=False, **io))
        self.stage("st_minmax", MinMaxScaler(**io))
        self.stage("st_minmax2", MinMaxScaler(min=-1.5, max=4.0, **io))
        self.stage("st_maxabs", MaxAbsScaler(**io))
        if VERSION >= (3, 0):
            self.stage("st_robust", feature.RobustScaler(withCentering=True, **io))
        self.stage("st_norm2", Normalizer(p=2.0, **io))
        self.stage("st_norm1", Normalizer(p=1.0, **io))
        self.stage("st_norminf", Normalizer(p=INF, **io))
        self.stage("st_pca", PCA(k=3, **io))
        self.stage("st_slicer", VectorSlicer(indices=[4, 0, 2], **io))
        self.stage("st_poly", PolynomialExpansion(degree=2, **io))
        factors = Vectors.dense([1.0, 2.0, 0.5, 0.1, 3.0, 1e10])
        self.stage("st_elem", ElementwiseProduct(scalingVec=factors, **io))
        if VERSION >= (3, 1):
            selector = feature.VarianceThresholdSelector(
                featuresCol="in", outputCol="out", varianceThreshold=0.5
            )
            self.stage("st_varsel", selector)
        for invalid in ("keep", "skip"):
            indexer = VectorIndexer(maxCategories=3, handleInvalid=invalid, **io)
            train, test = self.vectors(CATEGORIES, "in"), self.vectors(EDGE_CATEGORIES, "in")
            self.stage(f"st_vindex_{invalid}", indexer, train, test)

    def scalar_stages(self):
        """Stages that read columns of strings and numbers."""
        train, test = self.frame(SCALAR_ROWS, SCALARS), self.frame(EDGE_SCALAR_ROWS, SCALARS)
        for order in ("frequencyDesc", "frequencyAsc", "alphabetDesc", "alphabetAsc"):
            for invalid in ("keep", "skip"):
                strings = dict(inputCol="s", outputCol="out", stringOrderType=order, handleInvalid=invalid)
                self.stage(
                    f"st_sidx_{order}_{invalid}", StringIndexer(**strings), train, test.select("s", "i")
                )
        for name, column in (("num", "d"), ("int", "i"), ("float", "f")):
            numbers = StringIndexer(inputCol=column, outputCol="out", handleInvalid="keep")
            self.stage(f"st_sidx_{name}", numbers, train, test.select(column))
        two = dict(inputCols=["d", "f"], outputCols=["od", "of"])
        self.stage("st_imp_mean", Imputer(**two), train, test)
        self.stage("st_imp_median", Imputer(strategy="median", **two), train, test)
        self.stage("st_imp_missing", Imputer(missingValue=1.0, **two), train, test)
        if VERSION >= (3, 1):
            self.stage("st_imp_mode", Imputer(strategy="mode", **two), train, test)
            self.stage("st_imp_int", Imputer(inputCols=["i"], outputCols=["oi"]), train, test)
        io = dict(inputCol="d", outputCol="out")
        for invalid in ("keep", "skip"):
            bucketizer = Bucketizer(splits=[-INF, 0.0, 1.5, INF], handleInvalid=invalid, **io)
            self.stage(f"st_bucket_{invalid}", bucketizer, test=test)
        self.stage("st_qdisc", QuantileDiscretizer(numBuckets=3, handleInvalid="keep", **io), train, test)
        self.stage("st_binar", Binarizer(threshold=1.0, **io), test=test.where("d is not null"))
        for invalid in ("keep", "skip"):
            assembler = VectorAssembler(inputCols=["d", "i", "f"], outputCol="out", handleInvalid=invalid)
            self.stage(f"st_va_{invalid}", assembler, test=test)
        self.stage("st_sqlt", SQLTransformer(statement="SELECT *, d * 2 AS d2 FROM __THIS__"), test=test)
        hasher = FeatureHasher(inputCols=["s", "d", "i"], outputCol="out", numFeatures=64)
        self.stage("st_hasher", hasher, test=test)

    def category_stages(self):
        """Encoders of category indices."""
        train = self.doubles([0.0, 1.0, 2.0, 1.0])
        test = self.doubles([0.0, 1.0, 2.0, 3.0, 1.5, -1.0, NAN])
        for name, drops in (("drop", True), ("nodrop", False)):
            for invalid in ("keep", "error"):
                columns = dict(inputCols=["x"], outputCols=["out"])
                encoder = OneHotEncoderOfSpark3(dropLast=drops, handleInvalid=invalid, **columns)
                self.stage(f"st_ohe_{name}_{invalid}", encoder, train, test if invalid == "keep" else train)
        if VERSION < (3, 0):
            self.stage("st_ohe_stateless", OneHotEncoder(inputCol="x", outputCol="out"), test=train)
        if VERSION >= (4, 0):
            pairs = [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (2.0, 0.0), (2.0, 0.0), (1.0, 1.0)]
            encoder = feature.TargetEncoder(
                inputCols=["c"],
                outputCols=["o"],
                labelCol="y",
                targetType="binary",
                handleInvalid="keep",
                smoothing=2.0,
            )
            unseen = [(0.0,), (1.0,), (2.0,), (3.0,), (None,)]
            train = self.frame(pairs, struct_of(c=DoubleType, y=DoubleType))
            self.stage("st_targetenc", encoder, train, self.frame(unseen, struct_of(c=DoubleType)))

    # Errors

    def errors(self):
        """What Spark makes of bad input: the last column, or the error."""
        answers = {}

        def ask(name, answer):
            try:
                answers[name] = {"ok": [exact(row[-1]) for row in answer().collect()]}
            except Exception as error:  # the point of the exercise
                lines = [line.strip() for line in str(error).split("\n") if line.strip()]
                causes = [line for line in lines if line.startswith("Caused by: ")]
                message = causes[-1][len("Caused by: ") :] if causes else lines[0]
                answers[name] = {"error": re.sub(r"Lambda\$\d+/0x[0-9a-f]+", "Lambda", message)[:400]}

        forest = RandomForestClassificationModel.load(str(self.out / "rf_dense"))
        ask("rf_short_dense_vector", lambda: forest.transform(self.vectors([Vectors.dense([1.0, 2.0])])))
        ask("rf_long_dense_vector", lambda: forest.transform(self.vectors([Vectors.dense([1.0] * 12)])))
        ask("rf_short_sparse_vector", lambda: forest.transform(self.vectors([Vectors.sparse(2, [], [])])))
        ask("rf_null_vector", lambda: forest.transform(self.vectors([None])))

        train, test = self.frame(SCALAR_ROWS, SCALARS), self.frame(EDGE_SCALAR_ROWS, SCALARS)
        indexer = StringIndexer(inputCol="s", outputCol="out").fit(train.where("s is not null"))
        with_null = StringIndexer(inputCol="s", outputCol="out").fit(train)
        ask("sidx_error_unseen", lambda: indexer.transform(test.where("s = 'zz'")))
        ask("sidx_error_null", lambda: indexer.transform(test.where("s is null")))
        ask("sidx_missing_column", lambda: with_null.transform(test.select("d").limit(1)))

        def assemble(frame, column="d"):
            return VectorAssembler(inputCols=[column], outputCol="o").transform(frame)

        ask("va_error_nan", lambda: assemble(test.where("isnan(d)")))
        ask("va_error_null", lambda: assemble(test.where("d is null")))
        ask("va_error_nan_in_vector", lambda: assemble(self.vectors([Vectors.dense([NAN, 1.0])], "in"), "in"))
        ask("va_error_nan_float_col", lambda: assemble(test.where("isnan(f)"), "f"))

        def bucketize(frame, splits, **options):
            return Bucketizer(splits=splits, inputCol="d", outputCol="o", **options).transform(frame)

        ask("bucket_error_nan", lambda: bucketize(test.where("isnan(d)"), [-INF, 0.0, INF]))
        ask(
            "bucket_out_of_range",
            lambda: bucketize(test.where("d = 3.0"), [0.0, 1.0, 2.0], handleInvalid="keep"),
        )
        ask("bucket_null", lambda: bucketize(test.where("d is null").select("d"), [-INF, 0.0, INF]))

        encoder = OneHotEncoderOfSpark3(inputCols=["x"], outputCols=["o"]).fit(
            self.doubles([0.0, 1.0, 2.0, 1.0])
        )
        for value in (3.0, -1.0, NAN, 1.5):
            ask(f"ohe_error_{value!r}", lambda value=value: encoder.transform(self.doubles([value])))

        def scale(scaler, values):
            scaler.setInputCol("in").setOutputCol("out")
            return scaler.fit(self.vectors(VECTORS, "in")).transform(
                self.vectors([Vectors.dense(values)], "in")
            )

        ask("std_wrong_size_short", lambda: scale(StandardScaler(), [1.0, 2.0]))
        ask("std_wrong_size_long", lambda: scale(StandardScaler(), [1.0] * 9))
        ask("minmax_wrong_size", lambda: scale(MinMaxScaler(), [1.0, 2.0]))
        vector_indexer = VectorIndexer(inputCol="in", outputCol="out", maxCategories=3)
        vector_indexer = vector_indexer.fit(self.vectors(CATEGORIES, "in"))
        unseen = self.vectors([Vectors.dense([2.0, 3.0, 1.0])], "in")
        ask("vindex_error", lambda: vector_indexer.transform(unseen))
        to_string = IndexToString(inputCol="x", outputCol="o", labels=["a", "b"])
        ask("idx2str_out_of_range", lambda: to_string.transform(self.doubles([5.0])))
        ask("idx2str_fraction_nan", lambda: to_string.transform(self.doubles([1.9, NAN, -0.5])))
        (self.out / "errors.json").write_text(json.dumps(answers, indent=1) + "\n", encoding="utf-8")

    def make_all(self):
        """Every case that the patterns name, then the notes."""
        whole = self.rf_dense, self.rf_cat, self.pipeline_basic, self.pipeline_full, self.pipeline_nested_cv
        for make in (*whole, self.st_rformula):
            self.case(make.__name__, make)
        self.tree_models()
        self.vector_stages()
        self.scalar_stages()
        self.category_stages()
        if (self.out / "rf_dense").is_dir():
            self.case("errors", self.errors)
        clean(self.out)
        jvm = self.spark.sparkContext._jvm
        notes = {
            "pyspark": pyspark.__version__,
            "cases": self.notes,
            "java": jvm.System.getProperty("java.version"),
            "scala": jvm.scala.util.Properties.versionString(),
        }
        (self.out / "notes.json").write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")


def save_through_connect(data, out):
    """A small pipeline saved by the client: the class in its metadata is the one of Python."""
    spark = SparkSession.builder.remote("local[1]").getOrCreate()
    columns = ["cnt", "rate", "proto", "label"]
    flows = [json.loads(line) for line in (data / "train.jsonl").open(encoding="utf-8")]
    rows = [tuple(CLASS_INDICES.get(flow[name], flow[name]) for name in columns) for flow in flows]
    types = IntegerType, DoubleType, StringType, DoubleType
    train = spark.createDataFrame(rows, struct_of(**dict(zip(columns, types))))
    stages = [
        StringIndexer(inputCol="proto", outputCol="proto_i"),
        VectorAssembler(inputCols=["cnt", "rate", "proto_i"], outputCol="features"),
        RandomForestClassifier(numTrees=3, seed=1, labelCol="label"),
    ]
    model = Pipeline(stages=stages).fit(train)
    model.write().overwrite().save(str(out.resolve() / "connect_pipeline"))
    clean(out / "connect_pipeline")
    spark.stop()


def load_model(path):
    """A saved model of any class above; None if this Spark has no such class."""
    metadata = next(file for file in sorted((path / "metadata").glob("part-*")) if file.suffix != ".gz")
    name = json.loads(metadata.read_text(encoding="utf-8").split("\n")[0])["class"].rpartition(".")[2]
    if name == "PipelineModel":
        return PipelineModel.load(str(path))
    owners = (module for module in (feature, classification, regression) if hasattr(module, name))
    owner = next(owners, None)
    return getattr(owner, name).load(str(path)) if owner else None


def rescore(spark, out, every):
    """Score the rows of the goldens of another Spark with this one."""
    flow_columns = [field for field in FLOW.fields if field.name not in ("label", "weight")]
    inputs = StructType(
        flow_columns
        + SCALARS.fields
        + [StructField(name, VectorUDT()) for name in ("features", "in")]
        + [StructField(name, DoubleType()) for name in ("x", "c")]
    )
    version = pyspark.__version__
    for golden in sorted(out.glob("*.golden.jsonl")):
        name = golden.name[: -len(".golden.jsonl")]
        if ".by-" in name:
            continue
        lines = [json.loads(line) for line in golden.open(encoding="utf-8")]
        of_flows = name.startswith("pipeline_") or name == "st_rformula"
        used = [
            field
            for field in inputs.fields
            if field.name in lines[0] and not (of_flows and field.name in ("features", "in"))
        ]
        rows = [tuple(from_exact(line[field.name], field.dataType) for field in used) for line in lines]
        frame = spark.createDataFrame(rows, StructType(used)).coalesce(1)
        path = out / f"{name}.by-{version}.golden.jsonl"
        try:
            model = load_model(out / name)
            if not isinstance(model, Transformer):
                print(f"{name}: PySpark {version} has no such stage")
                continue
            write_golden(path, model.transform(frame), every)
        except Exception as error:  # a format or a class that this Spark does not know
            print(f"{name}: {type(error).__name__}: {str(error)[:200]}")
            continue
        again = [json.loads(line) for line in path.open(encoding="utf-8")]
        differing = sum(a != b for a, b in zip(lines, again)) + abs(len(lines) - len(again))
        print(f"{name}: {differing} of {len(lines)} rows differ")
        if not differing:
            path.unlink()


def main():
    """One of the three modes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="directory to make, or to add to")
    parser.add_argument("--data", type=Path, help="directory with train.jsonl and test.jsonl")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="cases to make (default: all)")
    parser.add_argument(
        "--every",
        type=int,
        default=1,
        metavar="N",
        help="of goldens over 60 kB keep every Nth row (see README)",
    )
    parser.add_argument("--connect", action="store_true", help="add connect_pipeline only")
    parser.add_argument("--rescore", action="store_true", help="score the models in OUT with this Spark")
    arguments = parser.parse_args()
    if not arguments.rescore and not arguments.data:
        parser.error("--data is missing")
    if not arguments.rescore and not arguments.connect and not arguments.only and arguments.out.exists():
        sys.exit(f"{arguments.out} exists: remove it, or name cases with --only")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.connect:
        save_through_connect(arguments.data, arguments.out)
        return

    with tempfile.TemporaryDirectory() as scratch:
        spark = start_spark(Path(scratch))
        if arguments.rescore:
            rescore(spark, arguments.out, arguments.every)
        else:
            out, only = arguments.out.resolve(), arguments.only or ["*"]
            fixtures = Fixtures(spark, arguments.data, out, only, arguments.every)
            fixtures.make_all()
            failed = {name: note for name, note in fixtures.notes.items() if note != "ok"}
            print(f"{len(fixtures.notes)} cases, failed: {failed or 'none'}")
        spark.stop()


if __name__ == "__main__":
    main()
