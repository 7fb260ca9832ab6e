"""Make `dangling_child` of `3.5.9/pipeline_basic`: the right child of the root of tree 3 becomes node 99.

    python testdata/spark/dangling_child.py
"""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent


def main():
    """Copy, and change one number."""
    to = HERE / "dangling_child"
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(HERE / "3.5.9" / "pipeline_basic", to)
    for part in to.glob("stages/*RandomForest*/data/*.parquet"):
        table = pq.read_table(part)
        rows = table.to_pylist()
        for row in rows:
            if row["treeID"] == 3 and row["nodeData"]["id"] == 0:
                row["nodeData"]["rightChild"] = 99
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), part)


if __name__ == "__main__":
    main()
