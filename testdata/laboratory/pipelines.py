"""Pipelines drawn at random: every stage and parameter that can be scored."""

import math

from pyspark.ml import PipelineModel
from pyspark.ml import classification as C
from pyspark.ml import feature as F
from pyspark.ml import regression as R
from pyspark.ml.evaluation import MulticlassClassificationEvaluator, RegressionEvaluator
from pyspark.ml.linalg import Vectors
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder, TrainValidationSplit

MODES = ["error", "skip", "keep"]
# Stages that a pipeline can be asked to have, with the handleInvalid modes each has.
WITH_MODES = [
    "StringIndexer",
    "Bucketizer",
    "QuantileDiscretizer",
    "VectorAssembler",
    "VectorIndexer",
    "RFormula",
]
WITHOUT_MODES = """
    IndexToString Imputer Binarizer StandardScaler MinMaxScaler MaxAbsScaler RobustScaler Normalizer ChiSqSelector
    UnivariateFeatureSelector VarianceThresholdSelector VectorSlicer ElementwiseProduct
    nested CrossValidator TrainValidationSplit bare
""".split()
FOCUSES = (
    [(stage, mode) for mode in MODES for stage in WITH_MODES]
    + [("OneHotEncoder", "error"), ("OneHotEncoder", "keep")]
    + [(stage, None) for stage in WITHOUT_MODES]
)
PREDICTORS = [
    "RandomForestClassifier",
    "DecisionTreeClassifier",
    "RandomForestRegressor",
    "DecisionTreeRegressor",
]
BOOSTED = ["GBTClassifier", "GBTRegressor"]


class Draft:
    """A pipeline being drawn: its stages, what was counted, and which columns there are to go on with."""

    def __init__(self, rng, focus, predictor, n_classes, version):
        self.rng, self.focus, self.version, self.n_classes = rng, focus, version, n_classes
        self.predictor_name = predictor
        self.stages, self.features = [], []
        self.counts = []  # (stage, mode)
        self.points = {}  # column -> values that decide something
        # One mode for most stages, so that rows reach the end and errors stay few.
        self.mode = focus[1] or rng.choice(MODES)

    def wants(self, stage, chance):
        """Whether to put the stage in."""
        return self.focus[0] == stage or self.rng.random() < chance

    def draw_mode(self, stage):
        """A handleInvalid for the stage."""
        if self.focus[0] == stage and self.focus[1]:
            return self.focus[1]
        return self.mode if self.rng.random() < 0.6 else "keep"

    def add(self, stage, name, mode=None):
        self.stages.append(stage)
        self.counts.append((name, mode))

    @property
    def classifies(self):
        return "Classif" in self.predictor_name


def draw(rng, focus, predictor, n_classes, version):
    """A draft of a pipeline that has the stage `focus` and ends with `predictor`."""
    draft = Draft(rng, focus, predictor, n_classes, version)
    if focus[0] == "RFormula":
        formula(draft)
    else:
        indexers(draft)
        numbers(draft)
        encoders(draft)
        vector = assemblers(draft)
        draft.vector = vectors(draft, vector)
    label(draft)
    return draft


def formula(draft):
    """An RFormula in the place of all feature stages."""
    mode = draft.draw_mode("RFormula")
    terms = ["s2", *draft.rng.sample(["d1", "d3", "i1", "few", "f1", "b1"], 3)]
    stage = F.RFormula(
        formula="class ~ " + " + ".join(terms), handleInvalid=mode, featuresCol="v0", labelCol="ignored"
    )
    draft.add(stage, "RFormula", mode)
    draft.vector = "v0"


def indexers(draft):
    """Indexers of text and of numbers, one column and many."""
    rng = draft.rng
    order = rng.choice(["frequencyDesc", "frequencyAsc", "alphabetDesc", "alphabetAsc"])
    if draft.wants("StringIndexer", 0.7):
        mode = draft.draw_mode("StringIndexer")
        columns = rng.sample(["s1", "s2", "i1", "l1", "few", "f1"], rng.choice([1, 2, 3]))
        outputs = [f"{name}_i" for name in columns]
        if len(columns) == 1:
            stage = F.StringIndexer(inputCol=columns[0], outputCol=outputs[0])
        else:
            stage = F.StringIndexer(inputCols=columns, outputCols=outputs)
        draft.add(stage.setHandleInvalid(mode).setStringOrderType(order), "StringIndexer", mode)
        draft.features += outputs
        if draft.wants("IndexToString", 0.15):
            draft.add(
                F.IndexToString(inputCol=outputs[0], outputCol="text", labels=[f"w{i}" for i in range(400)]),
                "IndexToString",
            )
            draft.add(
                F.StringIndexer(inputCol="text", outputCol="text_i", handleInvalid="keep"),
                "StringIndexer",
                "keep",
            )
            draft.features.append("text_i")
    elif draft.focus[0] in ("IndexToString", "OneHotEncoder"):
        draft.add(
            F.StringIndexer(inputCol="s1", outputCol="s1_i", handleInvalid="keep"), "StringIndexer", "keep"
        )
        draft.features.append("s1_i")
        if draft.focus[0] == "IndexToString":
            draft.add(
                F.IndexToString(inputCol="s1_i", outputCol="text", labels=[f"w{i}" for i in range(9)]),
                "IndexToString",
            )


def numbers(draft):
    """Imputers, buckets and thresholds on single columns."""
    rng = draft.rng
    if draft.wants("Imputer", 0.5):
        columns = rng.sample(["d1", "d2", "d3", "f1", "i1", "l1"], rng.choice([1, 2, 4]))
        strategy = rng.choice(["mean", "median", "mode"] if draft.version >= (3, 1) else ["mean", "median"])
        stage = F.Imputer(
            inputCols=columns, outputCols=[f"{name}_imp" for name in columns], strategy=strategy
        )
        if rng.random() < 0.3:
            stage.setMissingValue(rng.choice([0.0, 1.0, 3.0]))
        draft.add(stage, "Imputer")
        draft.features += stage.getOutputCols()
    if draft.wants("Bucketizer", 0.3):
        mode = draft.draw_mode("Bucketizer")
        splits = [-math.inf, 0.0, 0.5, 2.5, math.inf]
        if rng.random() < 0.5:
            stage = F.Bucketizer(inputCol="d1", outputCol="d1_b", splits=splits, handleInvalid=mode)
        else:
            bounded = [-5.0, 0.0, 1.0, 3.0, 1e9]
            columns = {"d2": splits, "few": bounded}
            names = rng.sample(list(columns), 2)
            stage = F.Bucketizer(
                inputCols=names,
                outputCols=[f"{name}_b" for name in names],
                splitsArray=[columns[name] for name in names],
                handleInvalid=mode,
            )
            draft.points["few"] = bounded
        draft.points["d1"] = draft.points["d2"] = splits[1:4]
        draft.add(stage, "Bucketizer", mode)
        draft.features += ["d1_b"] if stage.isSet("inputCol") else ["d2_b", "few_b"]
    if draft.wants("QuantileDiscretizer", 0.2):
        mode = draft.draw_mode("QuantileDiscretizer")
        stage = F.QuantileDiscretizer(
            inputCol="d3", outputCol="d3_q", numBuckets=rng.choice([3, 5]), handleInvalid=mode
        )
        draft.add(stage, "QuantileDiscretizer", mode)
        draft.features.append("d3_q")
    if draft.wants("Binarizer", 0.2):
        threshold = rng.choice([0.0, 0.5, -0.5])
        draft.add(F.Binarizer(inputCol="d1", outputCol="d1_bin", threshold=threshold), "Binarizer")
        draft.features.append("d1_bin")
        draft.points.setdefault("d1", [threshold])


def encoders(draft):
    """One-hot encoders of the indices so far."""
    indices = [name for name in draft.features if name.endswith(("_i", "_b", "_q"))]
    if indices and draft.wants("OneHotEncoder", 0.4):
        mode = (
            draft.focus[1]
            if draft.focus[0] == "OneHotEncoder"
            else draft.rng.choice(["keep", "keep", "error"])
        )
        columns = draft.rng.sample(indices, draft.rng.choice([1, min(2, len(indices))]))
        outputs = [f"{name}_hot" for name in columns]
        stage = F.OneHotEncoder(
            inputCols=columns, outputCols=outputs, handleInvalid=mode, dropLast=draft.rng.random() < 0.5
        )
        draft.add(stage, "OneHotEncoder", mode)
        draft.features = [name for name in draft.features if name not in columns] + outputs


def assemblers(draft):
    """One or two assemblers, with raw columns among what they join."""
    rng = draft.rng
    mode = draft.draw_mode("VectorAssembler")
    raw = rng.sample(["d1", "d2", "d3", "few", "f1", "i1", "l1", "b1"], rng.choice([2, 3, 5]))
    columns = list(dict.fromkeys(draft.features + raw))
    rng.shuffle(columns)
    if rng.random() < 0.3:
        inner = columns[: max(2, len(columns) // 2)]
        draft.add(
            F.VectorAssembler(inputCols=inner, outputCol="inner", handleInvalid=mode), "VectorAssembler", mode
        )
        columns = ["inner", *columns[len(inner) :]]
    draft.add(
        F.VectorAssembler(inputCols=columns, outputCol="v0", handleInvalid=mode), "VectorAssembler", mode
    )
    return "v0"


def vectors(draft, name):
    """Stages from vector to vector."""
    rng = draft.rng
    kinds = """
        StandardScaler MinMaxScaler MaxAbsScaler RobustScaler Normalizer VectorIndexer ChiSqSelector
        UnivariateFeatureSelector VarianceThresholdSelector VectorSlicer ElementwiseProduct Binarizer
    """.split()
    chosen = rng.sample(kinds, rng.choice([0, 0, 1, 2, 3]))
    if draft.focus[0] in kinds and draft.focus[0] not in chosen:
        chosen.insert(rng.randrange(len(chosen) + 1), draft.focus[0])
    if draft.version < (3, 1):
        chosen = [
            kind for kind in chosen if kind not in ("UnivariateFeatureSelector", "VarianceThresholdSelector")
        ]
    for position, kind in enumerate(chosen, 1):
        to = f"v{position}_{kind}"
        mode = draft.draw_mode("VectorIndexer") if kind == "VectorIndexer" else None
        draft.add(vector_stage(draft, kind, name, to, mode), kind, mode)
        name = to
    return name


def vector_stage(draft, kind, name, to, mode):
    """A stage that makes the vector `to` of the vector `name`."""
    rng = draft.rng
    columns = {"inputCol": name, "outputCol": to}
    selects = {"featuresCol": name, "outputCol": to}
    if kind == "StandardScaler":
        return F.StandardScaler(withMean=rng.random() < 0.5, withStd=rng.random() < 0.8, **columns)
    if kind == "RobustScaler":
        return F.RobustScaler(withCentering=rng.random() < 0.5, withScaling=rng.random() < 0.8, **columns)
    if kind == "MinMaxScaler":
        low = rng.choice([0.0, -1.5, -0.0])
        return F.MinMaxScaler(min=low, max=rng.choice([1.0, 4.0]), **columns)
    if kind == "MaxAbsScaler":
        return F.MaxAbsScaler(**columns)
    if kind == "Normalizer":
        return F.Normalizer(p=rng.choice([1.0, 2.0, math.inf]), **columns)
    if kind == "VectorIndexer":
        return F.VectorIndexer(maxCategories=rng.choice([2, 4, 12]), handleInvalid=mode, **columns)
    if kind == "ChiSqSelector":
        return F.ChiSqSelector(numTopFeatures=2, labelCol="class", **selects)
    if kind == "UnivariateFeatureSelector":
        stage = F.UnivariateFeatureSelector(labelCol="class", selectionMode="numTopFeatures", **selects)
        return stage.setFeatureType("continuous").setLabelType("categorical").setSelectionThreshold(2)
    if kind == "VarianceThresholdSelector":
        return F.VarianceThresholdSelector(varianceThreshold=0.01, **selects)
    if kind == "VectorSlicer":
        return F.VectorSlicer(indices=[1, 0], **columns)
    if kind == "ElementwiseProduct":
        # Its length is set when the vector's is known.
        return F.ElementwiseProduct(scalingVec=Vectors.dense([0.0]), **columns)
    return F.Binarizer(threshold=rng.choice([0.0, 0.5, -0.5]), **columns)


def label(draft):
    """Whether the pipeline indexes its label and names its prediction."""
    draft.label = "class" if draft.classifies else "target"
    draft.names_prediction = draft.classifies and draft.rng.random() < 0.4
    if draft.names_prediction:
        stage = F.StringIndexer(inputCol="kind", outputCol="kind_i", stringOrderType="alphabetAsc")
        draft.stages.insert(0, stage.setHandleInvalid("keep" if draft.rng.random() < 0.2 else "error"))
        draft.label = "kind_i"


def predictor(draft, features):
    """The estimator at the end."""
    rng, name = draft.rng, draft.predictor_name
    depth = rng.choice([0, 1, 3, 5, 5, 8, 20 if rng.random() < 0.3 else 6])
    params = {"featuresCol": features, "labelCol": draft.label, "maxDepth": depth, "maxBins": 64}
    params["seed"] = rng.randrange(2**31)
    if name.startswith("RandomForest"):
        params["numTrees"] = rng.choice([1, 3, 5, 12])
        params["subsamplingRate"] = rng.choice([1.0, 0.7])
        params["featureSubsetStrategy"] = rng.choice(["auto", "all", "sqrt", "0.5"])
    if name.startswith("GBT"):
        params |= {
            "maxIter": rng.choice([1, 5, 9]),
            "maxDepth": min(depth, 4),
            "stepSize": rng.choice([0.1, 0.3]),
        }
        params["labelCol"] = "binary" if draft.classifies else "target"
    if draft.classifies and not name.startswith("GBT"):
        params["impurity"] = rng.choice(["gini", "entropy"])
        hidden = rng.random()
        if hidden < 0.08:
            params["rawPredictionCol"] = ""
        elif hidden < 0.16:
            params["probabilityCol"] = ""
    if rng.random() < 0.3:
        params["weightCol"] = "weight"
    if rng.random() < 0.25:
        params["leafCol"] = "leaf"
    return getattr(C if draft.classifies else R, name)(**params)


def tuned(draft, estimator):
    """The estimator in a cross validation or a validation split, if the draft is about them."""
    if draft.focus[0] not in ("CrossValidator", "TrainValidationSplit"):
        return estimator
    grid = ParamGridBuilder().addGrid(estimator.maxDepth, [2, 3]).build()
    evaluator = (
        MulticlassClassificationEvaluator(labelCol=draft.label)
        if draft.classifies
        else RegressionEvaluator(labelCol=draft.label)
    )
    draft.counts.append((draft.focus[0], None))
    if draft.focus[0] == "CrossValidator":
        return CrossValidator(
            estimator=estimator, estimatorParamMaps=grid, evaluator=evaluator, numFolds=2, seed=1
        )
    return TrainValidationSplit(estimator=estimator, estimatorParamMaps=grid, evaluator=evaluator, seed=1)


def fit(draft, train):
    """Fits stage after stage; returns the PipelineModel."""
    fitted, frame = [], train
    for stage in draft.stages:
        if isinstance(stage, F.ElementwiseProduct):
            size = frame.select(stage.getInputCol()).first()[0].size
            factors = [draft.rng.choice([0.0, -0.0, 1.0, -2.5, 1e-3, 3.3]) for _ in range(size)]
            stage.setScalingVec(Vectors.dense(factors))
        model = stage.fit(frame) if hasattr(stage, "fit") else stage
        fitted.append(model)
        frame = model.transform(frame)
    frame = frame.cache()
    estimator = predictor(draft, draft.vector)
    model = tuned(draft, estimator).fit(frame)
    frame.unpersist()
    forest = getattr(model, "bestModel", model)
    if (
        draft.classifies
        and forest.hasParam("thresholds")
        and "GBT" not in draft.predictor_name
        and draft.rng.random() < 0.3
    ):
        thresholds = [draft.rng.choice([0.2, 0.5, 1.0]) for _ in range(forest.numClasses)]
        if draft.rng.random() < 0.3:
            thresholds[draft.rng.randrange(len(thresholds))] = 0.0
        forest.set(forest.getParam("thresholds"), thresholds)
        forest._transfer_params_to_java()
    fitted.append(model)
    if draft.names_prediction and forest.getOrDefault("predictionCol"):
        labels = [f"c{i}" for i in range(forest.numClasses)]
        fitted.append(F.IndexToString(inputCol="prediction", outputCol="named", labels=labels))
    if draft.focus[0] == "nested" and len(fitted) > 2:
        draft.counts.append(("nested", None))
        half = len(fitted) // 2
        fitted = [PipelineModel(fitted[:half]), PipelineModel(fitted[half:])]
    return PipelineModel(fitted)
