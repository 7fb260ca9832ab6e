"""Writes Grafana's dashboards: one table of panels each, laid out two in a row.

    python3 k8s/monitoring/dashboards.py

A panel is a title, a unit, and expressions with the legend of their lines.
"""

import json
from pathlib import Path

DIRECTORY = Path(__file__).parent / "dashboards"
# Of the chart: its Prometheus.
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
RATE = "[$__rate_interval]"
P = "sum by (le) (rate(ids_end_to_end_seconds_bucket[$__rate_interval]))"
FLOWS = 'topic!~"__.*|.+[.](verdicts|alerts|dlq)([.]spark)?"'

# Of flows that carry labels: the rate by class and verdict, and of that what is right in kind. PromQL compares no two labels
# of a line: the diagonal is what matches lines of which `predicted` was set to `actual`.
LABELLED = "sum by (actual, predicted) (rate(ids_labelled_records_total[$__rate_interval]))"
RIGHT = (
    f"({LABELLED} and on (actual, predicted) "
    'label_replace(sum by (actual) (rate(ids_labelled_records_total[$__rate_interval])), "predicted", "$1", "actual", "(.+)"))'
)

DETECTION = [
    (
        "Flows, verdicts",
        "reqps",
        {
            f"sum(rate(ids_producer_acknowledged_total{RATE}))": "sent by the producer",
            f"sum(rate(ids_records_total{RATE}))": "consumed",
            f"sum(rate(ids_verdicts_total{RATE}))": "verdicts",
        },
    ),
    ("Verdicts by class", "reqps", {f"sum by (class) (rate(ids_verdicts_total{RATE}))": "{{class}}"}),
    (
        "Attacks among the verdicts",
        "percentunit",
        {
            f'sum(rate(ids_verdicts_total{{class!="Normal"}}{RATE})) / sum(rate(ids_verdicts_total{RATE}))': "attacks",
        },
    ),
    ("Alerts", "reqps", {f"sum(rate(ids_alerts_total{RATE}))": "alerts"}),
    (
        "From flow to verdict",
        "s",
        {
            f"histogram_quantile(0.5, {P})": "half of them",
            f"histogram_quantile(0.95, {P})": "95 in 100",
            f"histogram_quantile(0.99, {P})": "99 in 100",
        },
    ),
    ("Lag", "short", {"sum by (partition) (ids_lag_records)": "partition {{partition}}"}),
    ("How far behind", "s", {"max by (partition) (ids_lag_seconds)": "partition {{partition}}"}),
    ("Dead letters by kind", "reqps", {f"sum by (kind) (rate(ids_dead_letters_total{RATE}))": "{{kind}}"}),
    (
        "Time to score a batch",
        "s",
        {
            f"sum by (pod) (rate(ids_batch_seconds_sum{RATE})) / sum by (pod) (rate(ids_batch_seconds_count{RATE}))": "{{pod}}",
        },
    ),
    (
        "Records of a batch",
        "short",
        {
            f"sum by (pod) (rate(ids_batch_records_sum{RATE})) / sum by (pod) (rate(ids_batch_records_count{RATE}))": "{{pod}}",
        },
    ),
    (
        "On their way",
        "short",
        {
            "ids_in_flight_records": "{{pod}}, verdicts",
            "ids_producer_in_flight_records": "{{pod}}, flows",
        },
    ),
    ("Partitions of each detector", "short", {"ids_assigned_partitions": "{{pod}}"}),
    ("Models that serve", "short", {"count by (version) (ids_model_info)": "{{version}}"}),
    (
        "Models taken over and refused",
        "short",
        {
            f"sum(increase(ids_model_reloads_total{RATE}))": "taken over",
            f"sum(increase(ids_model_refusals_total{RATE}))": "refused",
        },
    ),
    (
        "Trouble with Kafka",
        "short",
        {
            f"sum(increase(ids_commit_failures_total{RATE}))": "commits that failed",
            f"sum(increase(ids_consumer_errors_total{RATE}))": "errors of consumers",
            f"sum(increase(ids_delivery_errors_total{RATE})) + sum(increase(ids_producer_delivery_errors_total{RATE}))": "messages refused",
            f"sum(increase(ids_offset_gaps_total{RATE}))": "flows gone before they were read",
            f"sum(increase(ids_rebalances_total{RATE}))": "rebalances",
        },
    ),
    (
        "The producer is late",
        "s",
        {
            "max(ids_producer_behind_seconds)": "late",
            f"sum(rate(ids_producer_blocked_seconds_total{RATE}))": "held up, of each second",
        },
    ),
    (
        "Quality, where flows carry labels",
        "percentunit",
        {
            f'sum(rate(ids_labelled_records_total{{actual!="Normal", predicted!="Normal"}}{RATE})) '
            f'/ sum(rate(ids_labelled_records_total{{actual!="Normal"}}{RATE}))': "attacks found",
            f'sum(rate(ids_labelled_records_total{{actual="Normal", predicted!="Normal"}}{RATE})) '
            f'/ sum(rate(ids_labelled_records_total{{actual="Normal"}}{RATE}))': "false alarms among normal flows",
            f"sum({RIGHT}) / sum(rate(ids_labelled_records_total{RATE}))": "right in kind",
        },
    ),
    (
        "Right in kind by class, where flows carry labels",
        "percentunit",
        {f"sum by (actual) {RIGHT} / sum by (actual) (rate(ids_labelled_records_total{RATE}))": "{{actual}}"},
    ),
]
KAFKA = [
    ("Brokers", "short", {"max(kafka_active_brokers)": "there", "max(kafka_fenced_brokers)": "away"}),
    ("Active controllers", "short", {"sum(kafka_active_controllers)": "active"}),
    (
        "Partitions in trouble",
        "short",
        {
            "max(kafka_offline_partitions)": "without a leader",
            "sum(kafka_under_min_isr_partitions)": "cannot be written to",
            "sum(kafka_under_replicated_partitions)": "with a replica behind",
        },
    ),
    ("Partitions led", "short", {"kafka_leader_partitions": "{{pod}}"}),
    ("Messages in by topic", "reqps", {f"sum by (topic) (rate(kafka_messages_in_total{RATE}))": "{{topic}}"}),
    (
        "Flows in by broker",
        "reqps",
        {f"sum by (pod) (rate(kafka_messages_in_total{{{FLOWS}}}{RATE}))": "{{pod}}"},
    ),
    ("Written by clients", "Bps", {f"sum by (topic) (rate(kafka_bytes_in_total{RATE}))": "{{topic}}"}),
    ("Read by clients", "Bps", {f"sum by (topic) (rate(kafka_bytes_out_total{RATE}))": "{{topic}}"}),
    ("On disk by broker, of 1 GiB", "bytes", {"sum by (pod) (kafka_log_bytes)": "{{pod}}"}),
    ("On disk by topic", "bytes", {"sum by (topic) (kafka_log_bytes)": "{{topic}}"}),
    ("Request handlers idle", "percentunit", {"kafka_request_handlers_idle_ratio": "{{pod}}"}),
    ("Heap", "bytes", {'jvm_memory_used_bytes{area="heap", pod=~"kafka-.*"}': "{{pod}}"}),
]
SPARK = [
    (
        "Workers",
        "short",
        {
            "max(metrics_master_aliveWorkers_Value)": "there",
            "max(metrics_master_workers_Value)": "known",
        },
    ),
    (
        "Applications",
        "short",
        {
            "max(metrics_master_apps_Value)": "running",
            "max(metrics_master_waitingApps_Value)": "waiting for workers",
        },
    ),
    (
        "Cores of workers",
        "short",
        {
            "sum(metrics_worker_coresUsed_Value)": "used",
            "sum(metrics_worker_coresFree_Value)": "free",
        },
    ),
    (
        "Memory of workers",
        "decmbytes",
        {
            "sum(metrics_worker_memUsed_MB_Value)": "used",
            "sum(metrics_worker_memFree_MB_Value)": "free",
        },
    ),
    ("Executors of each worker", "short", {"metrics_worker_executors_Value": "{{pod}}"}),
    # Of the driver that came first, while it runs.
    (
        "Tasks of the application",
        "short",
        {
            f"sum by (application_name) (increase(metrics_executor_completedTasks_total{RATE}))": "{{application_name}}, done",
            f"sum by (application_name) (increase(metrics_executor_failedTasks_total{RATE}))": "{{application_name}}, failed",
        },
    ),
    (
        "Heap of its executors",
        "bytes",
        {"metrics_executor_JVMHeapMemory_bytes": "{{application_name}}, {{executor_id}}"},
    ),
    (
        "Collecting garbage, of each second",
        "percentunit",
        {f"rate(metrics_executor_totalGCTime_seconds_total{RATE})": "{{application_name}}, {{executor_id}}"},
    ),
]
DASHBOARDS = {
    "detection": ("ids: detection", DETECTION),
    "kafka": ("ids: Kafka", KAFKA),
    "spark": ("ids: Spark", SPARK),
}


def panel(number, title, unit, lines):
    """One panel, at its place."""
    targets = [
        {"datasource": DATASOURCE, "expr": expression, "legendFormat": legend, "refId": chr(ord("A") + i)}
        for i, (expression, legend) in enumerate(lines.items())
    ]
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": DATASOURCE,
        "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "min": 0,
                "custom": {"fillOpacity": 10, "lineWidth": 1, "showPoints": "never"},
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": targets,
    }


def dashboard(name, title, panels):
    """A dashboard as Grafana reads it."""
    return {
        "uid": f"ids-{name}",
        "title": title,
        "tags": ["ids"],
        "timezone": "browser",
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["ids"], "title": "ids", "asDropdown": False}],
        "panels": [panel(number, *one) for number, one in enumerate(panels)],
    }


def texts():
    """Each file's name and text."""
    for name, (title, panels) in DASHBOARDS.items():
        yield f"{name}.json", json.dumps(dashboard(name, title, panels), indent=1) + "\n"


if __name__ == "__main__":
    for file, text in texts():
        (DIRECTORY / file).write_text(text, encoding="utf-8")
