"""Alert rules and dashboards: parsed, tested, and of metrics that exist."""

import json
import re
import sys

import pytest
import yaml

from manifests import ROOT, run, tool

MONITORING = ROOT / "k8s/monitoring"
# Of promtool's own functions and words, and of the labels in an expression.
WORDS = set(
    """sum max min count rate increase absent by le and or unless offset on histogram_quantile namespace container pod
    topic class kind partition sha256 version area application_name actual predicted
    label_replace""".split()
)
DETECTOR = """alerts assigned batch commit consumer_errors dead_letters delivery_errors end_to_end in_flight labelled lag model
    offset_gaps rebalances records verdicts""".split()
# What a scrape of each source holds: files that `WRITE_SCRAPES=1 make k8s-loopback` wrote from the real thing.
SCRAPES = ROOT / "k8s/tests/scrapes"
SOURCES = {
    "detector": tuple(f"ids_{noun}" for noun in DETECTOR),
    "producer": ("ids_producer_",),
    "kafka": ("kafka_", "jvm_"),
    "spark": ("metrics_",),
}


@pytest.fixture(scope="session")
def groups(find):
    return find("PrometheusRule", "ids")["spec"]


@pytest.fixture(scope="session")
def dashboards(find):
    return {name: json.loads(text) for name, text in find("ConfigMap", "ids-dashboards")["data"].items()}


def expressions(groups, dashboards):
    """Each expression, and where it is."""
    for group in groups["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for name, dashboard in dashboards.items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"].replace("$__rate_interval", "5m")


def metrics(expression):
    """Names of the metrics in an expression."""
    bare = re.sub(r'"[^"]*"|\[[^\]]*\]', "", expression)
    return set(re.findall(r"[a-zA-Z_][a-zA-Z0-9_]*", re.sub(r"\b\d+[smh]\b", "", bare))) - WORDS


def promtool(tmp_path, groups):
    path = tmp_path / "rules.groups.yaml"
    path.write_text(yaml.safe_dump(groups))
    return run(tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", path)


def test_rules_are_rules(groups, tmp_path):
    done = promtool(tmp_path, groups)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_do_what_they_say(groups, tmp_path):
    (tmp_path / "rules.groups.yaml").write_text(yaml.safe_dump(groups))
    tests = tmp_path / "rules_test.yaml"
    tests.write_text((MONITORING / "rules_test.yaml").read_text())
    done = run(tool("promtool"), "test", "rules", tests)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_that_is_wrong_fails_its_test(groups, tmp_path):
    wrong = yaml.safe_dump(groups).replace("max(kafka_active_brokers) < 3", "max(kafka_active_brokers) < 2")
    assert wrong != yaml.safe_dump(groups)
    (tmp_path / "rules.groups.yaml").write_text(wrong)
    tests = tmp_path / "rules_test.yaml"
    tests.write_text((MONITORING / "rules_test.yaml").read_text())
    assert run(tool("promtool"), "test", "rules", tests).returncode != 0


def test_each_alert_is_seen_to_fire_and_to_be_quiet(groups):
    tests = yaml.safe_load((MONITORING / "rules_test.yaml").read_text())["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", [])]
    alerts = {rule["alert"] for group in groups["groups"] for rule in group["rules"]}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == alerts
    assert any(test["name"] == "all is well" for test in tests)


def test_alerts_say_how_bad_it_is_and_what_to_do(groups):
    for group in groups["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert {"summary", "description"} <= rule["annotations"].keys()


def test_dashboards_are_those_of_their_table(dashboards):
    sys.path.insert(0, str(MONITORING))
    import dashboards as table

    assert {
        name: json.loads(text) for name, text in table.texts()
    } == dashboards, "run python3 k8s/monitoring/dashboards.py"
    uids = [dashboard["uid"] for dashboard in dashboards.values()]
    assert len(set(uids)) == len(uids) == 3
    for dashboard in dashboards.values():
        for panel in dashboard["panels"]:
            assert panel["title"] and panel["fieldConfig"]["defaults"]["unit"] and panel["targets"]


def test_dashboards_are_loaded_by_their_label(find):
    config = find("ConfigMap", "ids-dashboards")
    values = yaml.safe_load((MONITORING / "values/kube-prometheus-stack.yaml").read_text())["grafana"][
        "sidecar"
    ]["dashboards"]
    assert config["metadata"]["labels"][values["label"]] == values["labelValue"]
    assert config["metadata"]["namespace"] == values["searchNamespace"]


def test_every_expression_is_one(groups, dashboards, tmp_path):
    found = list(expressions(groups, dashboards))
    assert len(found) > 50
    rules = [
        {"record": f"check:{number}", "expr": expression} for number, (_, expression) in enumerate(found)
    ]
    done = promtool(tmp_path, {"groups": [{"name": "expressions", "rules": rules}]})
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_expression_that_is_none_is_found(tmp_path):
    rules = [{"record": "check:1", "expr": "sum(rate(ids_records_total[5m])"}]
    assert promtool(tmp_path, {"groups": [{"name": "expressions", "rules": rules}]}).returncode != 0


@pytest.mark.parametrize("source, prefixes", SOURCES.items())
def test_every_metric_is_told_by_its_source(groups, dashboards, source, prefixes):
    scrape = SCRAPES / f"{source}.txt"
    if not scrape.exists():
        pytest.skip(f"there is no scrape of {source} yet")
    told = set(scrape.read_text().split())
    asked = set()
    for where, expression in expressions(groups, dashboards):
        assert metrics(expression), where
        mine = {name for name in metrics(expression) if source_of(name) == source}
        asked |= mine
        assert mine <= told, f"{where}: nobody tells of {sorted(mine - told)}"
    assert asked, f"nothing is asked of {source}"


def source_of(metric):
    """Who tells of a metric; Prometheus itself of `up`."""
    sources = [name for name, prefixes in SOURCES.items() if metric.startswith(prefixes)]
    assert len(sources) == 1 or metric == "up", f"whose is {metric}?"
    return sources[0] if sources else None


def test_the_scaler_asks_for_what_the_adapter_tells(find):
    (metric,) = find("HorizontalPodAutoscaler", "detector")["spec"]["metrics"]
    (rule,) = yaml.safe_load((MONITORING / "values/prometheus-adapter.yaml").read_text())["rules"]["external"]
    assert f'__name__="{metric["external"]["metric"]["name"]}"' in rule["seriesQuery"]
