"""Fits the forests M (100 trees of depth 12) and L (200 of depth 20) and saves each as Spark saves a pipeline.

scikit-learn fits them to UNSW-NB15, 42 features and 10 classes, each feature cut at no more than 61 points, as Spark does
before it looks for splits. Texts are numbered by frequency and split like numbers, so that every engine can hold the
forests; rows and thresholds are float32 values, so that engines of either precision take the same branches.
"""

import json
import shutil
import time
from pathlib import Path

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from sklearn.ensemble import RandomForestClassifier

SHAPES = {"M": (100, 12), "L": (200, 20)}
MOST_CUTS = 61
NOT_FEATURES = ("id", "attack_cat", "label")
SPARK = "3.5.1"


def fit(flows, directory, n_rows, say):
    """Fits both forests to the CSV file `flows`, where that has not been done.

    In `directory`: `M/` and `L/`, pipelines of Spark, `M.joblib` and `L.joblib`, the same of scikit-learn, `schema.toml`,
    and `rows.f64`, `[n_rows, 42]` doubles to score.
    """
    if (directory / "fitted").exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    names, matrix, labels = read(flows)
    cuts = [cuts_of(column) for column in matrix.T]
    codes = np.column_stack([np.searchsorted(c, column) for c, column in zip(cuts, matrix.T)])
    matrix[np.arange(n_rows) * len(matrix) // n_rows].tofile(directory / "rows.f64")
    columns = "".join(f'\n[[columns]]\nname = "{name}"\nkind = "number"\n' for name in names)
    label = '\n[[columns]]\nname = "attack_cat"\nkind = "label"\n'
    head = 'name = "binned"\n\n[labels]\ncolumn = "attack_cat"\nbenign = "Normal"\n'
    (directory / "schema.toml").write_text(head + columns + label)
    for name, (n_trees, depth) in SHAPES.items():
        start = time.monotonic()
        forest = RandomForestClassifier(n_trees, max_depth=depth, random_state=7, n_jobs=-1)
        forest.fit(codes, labels).n_jobs = 1
        for tree in forest.estimators_:
            uncode(tree.tree_, cuts)
        save_pipeline(forest, names, directory / name)
        joblib.dump(forest, directory / f"{name}.joblib")
        n_nodes = sum(tree.tree_.node_count for tree in forest.estimators_)
        say(
            f"{name}: {n_trees} trees of depth {depth}, {n_nodes:,} nodes, fitted in {time.monotonic() - start:.0f} s"
        )
    (directory / "fitted").touch()


def read(path):
    """Names of the features, their values, `[n_rows, n_features]`, and the labels, `[n_rows]`."""
    table = pa.csv.read_csv(path)
    table = table.rename_columns([name.lstrip("\ufeff") for name in table.column_names])
    names = [name for name in table.column_names if name not in NOT_FEATURES]
    columns = []
    for name in names:
        column = table.column(name).to_numpy()
        if column.dtype == object:
            _, positions, counts = np.unique(column.astype(str), return_inverse=True, return_counts=True)
            ranks = np.empty(len(counts))
            ranks[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
            column = ranks[positions]
        columns.append(column.astype(np.float32).astype(float))
    return names, np.column_stack(columns), table.column("attack_cat").to_numpy().astype(str)


def cuts_of(column):
    """At most MOST_CUTS points between neighbouring values, where the quantiles lie.

    No value lies on one, where engines of `x < cut` would part from those of `x <= cut`.
    """
    values = np.unique(column)
    middles = ((values[1:] + values[:-1]) / 2).astype(np.float32).astype(float)
    if len(middles) > MOST_CUTS:
        below = np.quantile(column, np.linspace(0, 1, MOST_CUTS + 2)[1:-1], method="nearest")
        positions = np.unique(np.searchsorted(values, below))
        middles = middles[positions[positions < len(middles)]]
    return np.setdiff1d(middles, values)


def uncode(tree, cuts):
    """Has a tree that was fitted to codes ask for values: a code is at most k where the value is at most cut k."""
    splits = np.flatnonzero(tree.children_left >= 0)
    pairs = zip(tree.feature[splits], tree.threshold[splits])
    tree.threshold[splits] = [cuts[feature][int(code)] for feature, code in pairs]


def save_pipeline(forest, names, directory):
    """Saves a pipeline of a VectorAssembler, the forest, and an IndexToString with the names of its classes."""
    shutil.rmtree(directory, ignore_errors=True)
    assembler = {"inputCols": names, "outputCol": "features", "handleInvalid": "keep"}
    names_of_classes = {
        "inputCol": "prediction",
        "outputCol": "predicted_cat",
        "labels": [str(name) for name in forest.classes_],
    }
    stages = [
        ("feature.VectorAssembler", "assembler", assembler),
        ("classification.RandomForestClassificationModel", "forest", {"numTrees": len(forest.estimators_)}),
        ("feature.IndexToString", "names", names_of_classes),
    ]
    uids = [uid for _, uid, _ in stages]
    write_metadata(directory, "PipelineModel", "pipeline", {"stageUids": uids})
    for number, (name, uid, settings) in enumerate(stages):
        stage = directory / "stages" / f"{number}_{uid}"
        if uid == "forest":
            save_forest(forest, stage, f"{name}", settings)
        else:
            write_metadata(stage, name, uid, settings)


def save_forest(forest, directory, name, settings):
    n_trees, n_features = len(forest.estimators_), forest.n_features_in_
    sizes = {"numFeatures": n_features, "numClasses": len(forest.classes_), "numTrees": n_trees}
    write_metadata(directory, name, "forest", settings, sizes)
    tree = {"numFeatures": n_features, "numClasses": len(forest.classes_)}
    texts = [
        json.dumps(metadata("classification.DecisionTreeClassificationModel", f"tree_{i}", {}, tree))
        for i in range(n_trees)
    ]
    trees = {"treeID": pa.array(range(n_trees), pa.int32()), "metadata": texts, "weights": [1.0] * n_trees}
    write_table(directory / "treesMetadata", pa.table(trees))
    tables = [nodes_of(number, tree.tree_) for number, tree in enumerate(forest.estimators_)]
    write_table(directory / "data", pa.concat_tables(tables))


def nodes_of(number, tree):
    """The nodes of a tree, as Spark's NodeData."""
    n, is_leaf = tree.node_count, tree.children_left < 0
    counts = (tree.value[:, 0, :] * tree.weighted_n_node_samples[:, None]).round()
    starts = np.concatenate([[0], np.cumsum(~is_leaf)]).astype(np.int32)
    split = {
        "featureIndex": int32(np.where(is_leaf, -1, tree.feature)),
        "leftCategoriesOrThreshold": pa.ListArray.from_arrays(starts, tree.threshold[~is_leaf]),
        "numCategories": int32(np.full(n, -1)),
    }
    starts = (np.arange(n + 1) * counts.shape[1]).astype(np.int32)
    node = {
        "id": int32(np.arange(n)),
        "prediction": pa.array(counts.argmax(axis=1).astype(float)),
        "impurity": pa.array(tree.impurity),
        "impurityStats": pa.ListArray.from_arrays(starts, pa.array(counts.ravel())),
        "rawCount": pa.array(tree.n_node_samples.astype(np.int64)),
        "gain": pa.array(np.where(is_leaf, -1.0, 0.0)),
        "leftChild": int32(tree.children_left),
        "rightChild": int32(tree.children_right),
        "split": pa.StructArray.from_arrays(list(split.values()), list(split)),
    }
    node = pa.StructArray.from_arrays(list(node.values()), list(node))
    return pa.table({"treeID": int32(np.full(n, number)), "nodeData": node})


def int32(values):
    return pa.array(values.astype(np.int32))


def metadata(name, uid, settings, more={}):
    of_spark = {
        "class": f"org.apache.spark.ml.{name}",
        "timestamp": 0,
        "sparkVersion": SPARK,
        "uid": uid,
        "paramMap": settings,
        "defaultParamMap": {},
    }
    if name.startswith("classification."):
        columns = ("features", "label", "prediction", "probability", "rawPrediction", "leaf")
        of_spark["defaultParamMap"] = {f"{name}Col": name * (name != "leaf") for name in columns}
        of_spark["defaultParamMap"]["impurity"] = "gini"
    return of_spark | more


def write_metadata(directory, name, uid, settings, more={}):
    (directory / "metadata").mkdir(parents=True)
    text = json.dumps(metadata(name, uid, settings, more))
    (directory / "metadata/part-00000").write_text(text + "\n")
    (directory / "metadata/_SUCCESS").touch()


def write_table(directory, table):
    directory.mkdir(parents=True)
    pa.parquet.write_table(table, directory / "part-00000.snappy.parquet")
    (directory / "_SUCCESS").touch()
