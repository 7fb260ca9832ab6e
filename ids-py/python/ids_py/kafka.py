"""The pipelines from Python: replay flows into Kafka, detect attacks in them, read the verdicts.

They are the pipelines of the programs `producer` and `detector`, with the same promises: a record gets a verdict or a
dead letter, and nothing is committed before both are acknowledged.

>>> from ids_py import Model
>>> from ids_py.kafka import Detector, DetectorConfig, EmbeddedKafka, Producer, ProducerConfig
>>> model = Model.from_spark("models/unsw-nb15-small")
>>> with EmbeddedKafka() as kafka:
...     kafka.create_topics("demo")
...     with Detector(model, DetectorConfig(**kafka.connection)) as detector:
...         sent = Producer(ProducerConfig(rate=2000, **kafka.connection)).run(
...             "testdata/synthetic-unsw-nb15.csv", records=100
...         )
...         verdicts = [next(detector) for _ in range(sent.records)]
>>> len(verdicts), sorted(verdicts[0])[:3]
(100, ['attack', 'class', 'model'])
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from types import TracebackType
from typing import Any, NamedTuple

from . import _ids

__all__ = ["Detector", "DetectorConfig", "EmbeddedKafka", "Producer", "ProducerConfig", "Sent"]


#: Longest wait for a detector to join its group, in seconds.
_JOIN_WAIT = 30.0


@dataclass(frozen=True, kw_only=True)
class ProducerConfig:
    """How flows arrive, and where they go. A value that cannot work raises `ConfigError` when a producer is made.

    Each second draws Poisson(`rate`) flows; with probability `burst_prob` the second is a burst, which multiplies the
    rate by 2 x (Pareto(`burst_power`) + 1), `burst_cap` times at most: a smaller power means larger bursts.
    """

    #: Brokers to start from: host:port, comma-separated.
    bootstrap_servers: str = "127.0.0.1:9092"
    #: Topic for the flows.
    topic: str = "demo"
    #: Mean number of flows per second, bursts apart.
    rate: float = 1000.0
    burst_prob: float = 0.1
    burst_power: float = 2.0
    burst_cap: float = 20.0
    #: Share of the records to make malformed on purpose.
    malformed: float = 0.0
    #: The same seed sends the same records at the same times.
    seed: int = 7
    #: librdkafka properties, e.g. {"security.protocol": "SASL_SSL"}.
    properties: Mapping[str, str] = field(default_factory=dict)
    #: librdkafka properties whose values are in files: name to path.
    secrets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """What a detector consumes, and how it decides. Verdicts, alerts and dead letters go to TOPIC.verdicts,
    TOPIC.alerts and TOPIC.dlq, which must be there."""

    #: Brokers to start from: host:port, comma-separated.
    bootstrap_servers: str = "127.0.0.1:9092"
    #: Topic with the flows.
    topic: str = "demo"
    #: Consumer group: its members share the partitions.
    group_id: str = "ids-detector"
    #: A name of this member that outlives it.
    group_instance_id: str | None = None
    #: Verdicts, alerts, dead letters and offsets in one transaction; else at least once.
    exactly_once: bool = False
    #: Columns of the flows if they are CSV rows, comma-separated or the name of a layout; None for JSON.
    csv_columns: str | None = None
    #: Least probability that raises an alert; without this and `class_thresholds` the model's own thresholds hold.
    alert_threshold: float | None = None
    #: The same for single classes: name to probability.
    class_thresholds: Mapping[str, float] = field(default_factory=dict)
    #: librdkafka properties.
    properties: Mapping[str, str] = field(default_factory=dict)
    #: librdkafka properties whose values are in files: name to path.
    secrets: Mapping[str, str] = field(default_factory=dict)


class Sent(NamedTuple):
    """What became of a replay."""

    #: Records sent, every one of them acknowledged.
    records: int
    #: Time to the last acknowledgement, in seconds.
    seconds: float


class Producer:
    """Replays flows into a topic as a sensor would send them: JSON, without the label, which travels as a header."""

    def __init__(self, config: ProducerConfig | None = None) -> None:
        self.config = config or ProducerConfig()
        self._inner = _ids.Producer(**_settings(self.config))

    def run(
        self,
        flows: str | PathLike[str] | _ids.Flows,
        *,
        records: int | None = None,
        seconds: float | None = None,
    ) -> Sent:
        """Sends `flows`, a file or what `read_flows` returned, over and over until `records` are sent or `seconds`
        are over, without either until Ctrl-C; waits until every record is acknowledged.

        Raises `KafkaError` where Kafka or the topic is out of reach or a record fails for good, `DecodeError` where
        the file has rows that are no flows.
        """
        return Sent(*self._inner.run(flows, records, seconds))


class Detector:
    """Scores the flows of a topic, in a thread of its own, from `start` to `stop` or within a `with` block.

    Iterating gives the verdicts as they come, as dictionaries (docs/verdict.schema.json); a record without a verdict
    gives one with the key `dead_letter`. They are read back from the topic of the verdicts, so those of other members
    of the group are among them. It ends when the detector is stopped and all are read.
    """

    def __init__(self, model: _ids.Model, config: DetectorConfig | None = None) -> None:
        self.config = config or DetectorConfig()
        self.model = model
        self._inner = _ids.Detector(model, **_settings(self.config))

    def start(self) -> None:
        """Starts, and waits until the consumer group is joined. Raises `KafkaError` where Kafka or a topic is out of
        reach, and where the group is not joined within 30 seconds; it does not run then."""
        self._inner.start(_JOIN_WAIT)

    def stop(self) -> None:
        """Stops: waits for acknowledgements and commits. Raises what ended the detector before its time."""
        self._inner.stop()

    @property
    def running(self) -> bool:
        """Whether it detects."""
        return self._inner.running

    @property
    def stats(self) -> dict[str, Any]:
        """What this run has counted so far: records, verdicts, alerts, dead letters and more."""
        return self._inner.stats()

    def poll(self, timeout: float = 1.0) -> dict[str, Any] | None:
        """The next verdict; None if none came within `timeout` seconds."""
        verdict = self._inner.poll(timeout)
        return None if verdict is None else _read(verdict)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        return _read(next(self._inner))

    def __enter__(self) -> Detector:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class EmbeddedKafka:
    """A Kafka inside the process, for notebooks and tests: librdkafka's mock. It keeps 5 MiB per partition and
    forgets the oldest records beyond; its transactions mean nothing."""

    def __init__(self, brokers: int = 3) -> None:
        self._inner = _ids.EmbeddedKafka(brokers)

    @property
    def bootstrap_servers(self) -> str:
        """Where it listens: on loopback."""
        return self._inner.bootstrap_servers

    @property
    def connection(self) -> dict[str, Any]:
        """Keywords of `ProducerConfig` and `DetectorConfig` that lead here."""
        return {"bootstrap_servers": self.bootstrap_servers, "properties": dict(self._inner.properties)}

    def create_topics(self, topic: str = "demo", partitions: int = 6) -> None:
        """Creates `topic` and those for verdicts, alerts and dead letters beside it."""
        self._inner.create_topics(topic, partitions)

    def close(self) -> None:
        """Ends it; what it held is gone."""
        self._inner.close()

    def __enter__(self) -> EmbeddedKafka:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read(verdict: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(verdict)
    return value


def _settings(config: ProducerConfig | DetectorConfig) -> dict[str, Any]:
    """The settings by keyword, mappings as pairs."""
    values = {name: getattr(config, name) for name in config.__dataclass_fields__}
    return {
        name: list(value.items()) if isinstance(value, Mapping) else value for name, value in values.items()
    }
