"""Prints the figures of real_suites.rs, as pyarrow, fastavro and Python's csv read the same files.

usage: figures.py DIRECTORY

A figure is the number of rows and a checksum over all values: the sum of the FNV-1a hashes of the rows' canonical text.
"""

import base64
import csv
import datetime
import decimal
import glob
import os
import struct
import sys

import fastavro
import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet


def single(value):
    """The shortest number that is this FLOAT."""
    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        if struct.pack("f", float(text)) == struct.pack("f", value):
            return float(text)
    return value


def text(value):
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value).replace("e+", "e").replace("e-0", "e-")
    if isinstance(value, bytes):
        return text(base64.b64encode(value).decode())
    if isinstance(value, decimal.Decimal):
        return text(f"{value:f}")
    if isinstance(value, datetime.datetime):
        shown = value.strftime("%Y-%m-%d %H:%M:%S.%f").rstrip("0").rstrip(".")
        return text(shown)
    if isinstance(value, datetime.date):
        return text(value.isoformat())
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return "[" + ",".join(map(text, value)) + "]"
    return "{" + ",".join(f'"{k}":{text(v)}' for k, v in sorted(value.items())) + "}"


def fnv(line):
    hashed = 0xCBF29CE484222325
    for byte in line.encode():
        hashed = (hashed ^ byte) * 0x100000001B3 % 2**64
    return hashed


def figure(rows):
    rows = list(rows)
    return f"{len(rows)} {sum(fnv(text(row)) for row in rows) % 2**64:016x}"


def of_arrow(value, kind):
    if value is None:
        return None
    if pa.types.is_float32(kind):
        return single(value)
    if pa.types.is_struct(kind):
        return {field.name: of_arrow(value[field.name], field.type) for field in kind}
    if pa.types.is_list(kind):
        return [of_arrow(item, kind.value_type) for item in value]
    if pa.types.is_map(kind):
        as_key = lambda key: key if isinstance(key, str) else text(key)
        return {as_key(key): of_arrow(item, kind.item_type) for key, item in value}
    return value


def arrow_rows(table):
    if any(pa.types.is_timestamp(field.type) for field in table.schema):
        table = table.cast(pa.schema([
            pa.field(f.name, pa.timestamp("us")) if pa.types.is_timestamp(f.type) else f for f in table.schema
        ]), safe=False)
    for row in table.to_pylist():
        yield {field.name: of_arrow(row[field.name], field.type) for field in table.schema}


def of_avro(value, schema):
    if value is None:
        return None
    if isinstance(schema, list):
        return of_avro(value, next(branch for branch in schema if branch != "null"))
    if schema == "float":
        return single(value)
    if isinstance(schema, dict):
        kind = schema["type"]
        if kind == "record":
            return {field["name"]: of_avro(value[field["name"]], field["type"]) for field in schema["fields"]}
        if kind == "array":
            return [of_avro(item, schema["items"]) for item in value]
        if kind == "float":
            return single(value)
    return value


def avro_rows(paths):
    for path in paths:
        with open(path, "rb") as file:
            reader = fastavro.reader(file)
            for record in reader:
                yield of_avro(record, reader.writer_schema)


def csv_rows(paths):
    names, rows = [], []
    for path in paths:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names += [name for name in reader.fieldnames if name not in names]
            rows += list(reader)
    for row in rows:
        yield {name: row.get(name) or None for name in names}


def main(root):
    def files(pattern):
        return sorted(glob.glob(f"{root}/{pattern}", recursive=True))

    for path in files("parquet_testing/data/*.parquet"):
        file = pyarrow.parquet.ParquetFile(path, coerce_int96_timestamp_unit="us")
        try:
            print(path[len(root) + 1:], figure(arrow_rows(file.read())))
        except Exception as error:
            print(path[len(root) + 1:], error)
    for path in files("orc_examples/*.orc"):
        try:
            print(path[len(root) + 1:], figure(arrow_rows(pyarrow.orc.ORCFile(path).read())))
        except Exception as error:
            print(path[len(root) + 1:], error)
    for path in files("avro_share/**/*.avro"):
        print(path[len(root) + 1:], figure(avro_rows([path])))
    print("airline_stats_avro", figure(avro_rows(files("airline_stats_avro/**/*.avro"))))
    print("userdata/avro", figure(avro_rows(files("userdata/avro/*.avro"))))
    for kind in ["userdata/parquet", "flight_summary/parquet"]:
        paths = [path for path in files(f"{kind}/**/*.parquet") if os.path.isfile(path)]
        tables = [pyarrow.parquet.read_table(path, coerce_int96_timestamp_unit="us") for path in paths]
        print(kind, figure(row for table in tables for row in arrow_rows(table)))
    for kind, pattern in [("userdata/orc", "*_orc"), ("flight_summary/orc", "**/*.orc")]:
        paths = [path for path in files(f"{kind}/{pattern}") if os.path.isfile(path)]
        tables = [pyarrow.orc.ORCFile(path).read() for path in paths]
        print(kind, figure(row for table in tables for row in arrow_rows(table)))
    for kind in ["bike_stations", "covid_it_regioni", "covid_jhu_daily", "flight_summary/csv", "retail_by_day"]:
        print(kind, figure(csv_rows(files(f"{kind}/*.csv"))))


main(sys.argv[1].rstrip("/"))
