#!/usr/bin/env bash
# Lets Spark score the synthetic flows, and the real ones where they are, with both committed models.
# usage: testdata/golden.sh OUTPUT_DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1
python=target/venv/bin/python
mkdir -p "$out"
for model in unsw-nb15 unsw-nb15-small; do
    "$python" testdata/spark_golden.py --model "models/$model" --input testdata/synthetic-unsw-nb15.csv \
        --output "$out/$model.synthetic.json" --rows "$out/$model.synthetic.jsonl" --limit 1000
    if [ -f "${IDS_DATA:-../shared/data}/unsw-nb15/flows.csv" ]; then
        "$python" testdata/spark_golden.py --model "models/$model" \
            --input "${IDS_DATA:-../shared/data}/unsw-nb15/flows.csv" --output "$out/$model.real.json"
    else
        echo "SKIPPED: real flows; set IDS_DATA to the directory that holds unsw-nb15/flows.csv"
    fi
done
