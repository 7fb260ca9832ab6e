"""A Prometheus on loopback, with the rules of the manifests, and what is asked of it."""

import json
import re
import urllib.parse

import yaml

from manifests import tool
from stage import DETECTOR, PRODUCER, SECOND_DETECTOR, get, wait_until

ADDRESS = "127.0.0.1:29090"
MONITORS = ("ids", "kafka", "spark-master", "spark-worker", "spark-client")


def scrapes(stage, find):
    """What is scraped: the pods of each PodMonitor at its path, by the labels that the operator would give them."""
    addresses = {"detector-0": DETECTOR, "detector-1": SECOND_DETECTOR, "producer": PRODUCER}
    for pod, ip in stage.addresses.items():
        addresses[pod] = f"{ip}:{stage.port(pod)}"
    for monitor in MONITORS:
        spec = find("PodMonitor", monitor)["spec"]
        taken = [pod for pod in addresses if stage.is_taken(spec["selector"], pod)]
        assert taken, monitor
        for number, endpoint in enumerate(spec["podMetricsEndpoints"]):
            yield {
                "job_name": f"monitoring/{monitor}/{number}",
                "metrics_path": endpoint["path"],
                "static_configs": [
                    {
                        "targets": [addresses[pod]],
                        "labels": {"pod": pod, "namespace": "ids", "container": stage.container(pod)["name"]},
                    }
                    for pod in taken
                ],
            }


def start(stage, find):
    """Starts one, in which a minute takes five seconds."""
    groups = yaml.safe_dump(find("PrometheusRule", "ids")["spec"])
    faster = re.sub(r"\b(\d+)m\b", lambda found: f"{5 * int(found.group(1))}s", groups)
    assert faster != groups
    (stage.directory / "rules.yaml").write_text(faster)
    config = {
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": list(scrapes(stage, find)),
    }
    (stage.directory / "prometheus.yaml").write_text(yaml.safe_dump(config))
    stage.start(
        "prometheus",
        [
            tool("prometheus"),
            f"--config.file={stage.directory / 'prometheus.yaml'}",
            f"--storage.tsdb.path={stage.directory / 'tsdb'}",
            f"--web.listen-address={ADDRESS}",
        ],
        {},
    )
    wait_until("Prometheus is ready", lambda: get(f"http://{ADDRESS}/-/ready")[0] == 200, stage=stage)


def ask(path, **parameters):
    """Lines of an answer."""
    status, text = get(f"http://{ADDRESS}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
    assert status == 200, text
    return json.loads(text)["data"]["result"]


def value(expression):
    """What it makes of an expression: the value of the first line, or None."""
    result = ask("query", query=expression)
    return float(result[0]["value"][1]) if result else None


def fires(alert):
    """Whether an alert fires."""
    return value(f'ALERTS{{alertname="{alert}",alertstate="firing"}}') == 1
