"""Appends rows to a Delta table as another program does: `append.py URL COMMITS`, with deltalake, one commit a row."""
import datetime
import sys

import deltalake
import pyarrow

PARTITION = 9  # no stream of the tests has as many, so the rows are told apart
NOW = datetime.datetime.now(datetime.timezone.utc)


def main(url, commits):
    schema = pyarrow.schema(deltalake.DeltaTable(url).schema())
    for offset in range(commits):
        row = {"id": offset, "_partition": PARTITION, "_offset": offset, "_ingest_time": NOW}
        columns = [pyarrow.array([row.get(field.name)], field.type) for field in schema]
        deltalake.write_deltalake(url, pyarrow.table(columns, schema=schema), mode="append")


main(sys.argv[1], int(sys.argv[2]))
