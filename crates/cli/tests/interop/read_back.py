"""Reads what alluvium wrote with packages that have no part in it: deltalake, polars, duckdb.

usage: read_back.py PROGRAM

Makes a small input, lets the program turn it into an append table, a partitioned one, a complete aggregate and one that
is changed by key, with deletion vectors and without, in several epochs, and compares every row with the input as Python's json module reads it.
"""

import collections
import datetime
import json
import os
import subprocess
import sys
import tempfile

import deltalake
import duckdb
import polars
import pyarrow


def make_input(directory):
    """Nine files of 50 rows with text, numbers, times, nulls and nested values; gives the rows."""
    rows = []
    os.makedirs(directory)
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    for number in range(9):
        with open(f"{directory}/{number}.json", "w", encoding="utf-8") as file:
            for i in range(number * 50, number * 50 + 50):
                at = start + datetime.timedelta(minutes=37 * i, milliseconds=i)
                row = {
                    "id": i,
                    "day": at.strftime("%Y-%m-%d"),
                    "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                    "name": None if i % 7 == 0 else f"näme {i % 13}, \"{i}\"",
                    "amount": i * 0.25,
                    "tags": [f"t{i % 3}", "x"],
                }
                rows.append(row)
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return rows


def pipeline(directory):
    files = (
        f"cloud_files('{directory}/in', 'json', map('schema', 'id BIGINT, day STRING, at TIMESTAMP, name STRING, "
        "amount DOUBLE, tags ARRAY<STRING>', 'cloudFiles.maxFilesPerTrigger', '2'))"
    )
    return f"""
        CREATE STREAMING TABLE bronze LOCATION '{directory}/bronze' AS SELECT * FROM {files};
        CREATE STREAMING TABLE by_day PARTITIONED BY (day) LOCATION '{directory}/by_day' AS
          SELECT id, amount, day FROM STREAM bronze WITH (maxFilesPerTrigger = 2);
        CREATE STREAMING TABLE gold LOCATION '{directory}/gold' OUTPUT MODE COMPLETE AS
          SELECT day, count(*) AS n, count(name) AS named, sum(amount) AS total, max(at) AS latest
          FROM STREAM bronze WITH (maxFilesPerTrigger = 2) GROUP BY day;
        CREATE STREAMING TABLE by_name LOCATION '{directory}/by_name' OUTPUT MODE UPDATE AS {by_name(files)};
        CREATE STREAMING TABLE rewritten LOCATION '{directory}/rewritten'
          TBLPROPERTIES ('delta.enableDeletionVectors' = 'false') OUTPUT MODE UPDATE AS {by_name(files)};
    """


def by_name(files):
    """Groups that change in some epochs: only the row of the newest counts."""
    return f"SELECT id % 37 AS k, count(*) AS n, sum(amount) AS total, max(at) AS latest FROM {files} WHERE id % 5 < 2 GROUP BY 1"


def expected_by_name(rows):
    groups = collections.defaultdict(lambda: [0, 0.0, ""])
    for row in (row for row in rows if row["id"] % 5 < 2):
        group = groups[row["id"] % 37]
        group[0] += 1
        group[1] += row["amount"]
        group[2] = max(group[2], row["at"])
    return sorted((k, *group) for k, group in groups.items())


def expected_gold(rows):
    groups = collections.defaultdict(lambda: [0, 0, 0.0, ""])
    for row in rows:
        group = groups[row["day"]]
        group[0] += 1
        group[1] += row["name"] is not None
        group[2] += row["amount"]
        group[3] = max(group[3], row["at"])
    return sorted((day, *group) for day, group in groups.items())


def iso(moment):
    return moment.astimezone(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def readers(path):
    """The rows of a table as dictionaries, by each package that can read it here."""
    table = deltalake.DeltaTable(path)
    vectors = "deletionVectors" in (table.protocol().reader_features or [])
    # Its own engine knows deletion vectors; what it gives pyarrow to read does not.
    yield "deltalake", lambda: query(table) if vectors else table.to_pyarrow_table().to_pylist()
    yield "polars", lambda: polars.read_delta(path).to_dicts()
    if vectors and not has_duckdb_delta():
        print(f"{os.path.basename(path)} by duckdb: left out, its extension cannot be had here")
    else:
        yield "duckdb", lambda: duckdb_rows(path, table)


def query(table):
    rows = deltalake.QueryBuilder().register("t", table).execute("SELECT * FROM t").read_all()
    return pyarrow.table(rows).to_pylist()


def has_duckdb_delta():
    try:
        duckdb.connect().execute("INSTALL delta; LOAD delta")
        return True
    except duckdb.Error:
        return False


def duckdb_rows(path, table):
    """DuckDB's own Delta reader where its extension can be had, else its Parquet reader over the table's files."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    try:
        connection.execute("INSTALL delta; LOAD delta")
        relation = connection.sql(f"SELECT * FROM delta_scan('{path}')")
    except duckdb.Error:
        files = ", ".join(f"'{file.removeprefix('file://')}'" for file in table.file_uris())
        relation = connection.sql(f"SELECT * FROM read_parquet([{files}], hive_partitioning = true, "
                                  "hive_types_autocast = false)")
    return [dict(zip(relation.columns, row)) for row in relation.fetchall()]


def main():
    program = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as directory:
        rows = make_input(f"{directory}/in")
        subprocess.run([program, "--warehouse", f"{directory}/warehouse", "--quiet", "-c", pipeline(directory)], check=True)
        bronze = sorted((r["id"], r["day"], r["at"], r["name"], r["amount"], tuple(r["tags"])) for r in rows)
        wanted = {
            "bronze": (bronze, lambda r: (r["id"], r["day"], iso(r["at"]), r["name"], r["amount"], tuple(r["tags"]))),
            "by_day": (sorted((r["id"], r["amount"], r["day"]) for r in rows),
                       lambda r: (r["id"], r["amount"], str(r["day"]))),
            "gold": (expected_gold(rows),
                     lambda r: (r["day"], r["n"], r["named"], r["total"], iso(r["latest"]))),
        }
        for name in ("by_name", "rewritten"):
            wanted[name] = (expected_by_name(rows), lambda r: (r["k"], r["n"], r["total"], iso(r["latest"])))
        wrong = 0
        for name, (expected, shape) in wanted.items():
            for reader, read in readers(f"{directory}/{name}"):
                found = sorted(shape(row) for row in read())
                same = found == expected
                wrong += not same
                print(f"{name} by {reader}: {len(found)} rows, {'the same' if same else 'DIFFERENT'}")
                if not same:
                    print("  found   ", [row for row in found if row not in expected][:3])
                    print("  expected", [row for row in expected if row not in found][:3])
        history = deltalake.DeltaTable(f"{directory}/gold").history()
        print(f"gold has {len(history)} versions; the newest was a {history[0].get('operation')}")
        sys.exit(1 if wrong else 0)


main()
