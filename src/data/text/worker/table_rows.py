"""Rows of a Parquet or Arrow IPC file as JSON lines on stdout, for one fpdist process, which starts it and reads them.
Usage: table_rows.py PACKAGES FILE COLUMN...

A row has the COLUMNs that the file has, all for the single COLUMN *; its other columns are there by name, as null. A table has no absent fields, only
nulls: a null in a COLUMN, or in a field of a struct, is a field that is not there. A null in a list stays one.
Numbers that are not finite come as Python's json writes them, which whoever reads the line refuses, with the row's number.
"""
import json
import os
import sys

BATCH_ROWS = 1024


def refuse(name, what):
    sys.exit(f"column '{name}' holds {what}, which no row is made of: convert it to text, numbers, lists or structs of them")


def converter(pa, kind, name):
    """What makes a value of the Arrow type `kind`, as Python has it, into JSON's; None: it is that already."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return converter(pa, kind.storage_type, name)
    if types.is_dictionary(kind):
        return converter(pa, kind.value_type, name)
    if types.is_struct(kind):
        fields = [(field.name, converter(pa, field.type, name)) for field in kind]
        return lambda value: {key: value[key] if change is None else change(value[key])
                              for key, change in fields if value.get(key) is not None}
    if types.is_map(kind):
        item = converter(pa, kind.item_type, name) or (lambda value: value)
        return lambda pairs: {str(key): item(value) for key, value in pairs if value is not None}
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        item = converter(pa, kind.value_type, name)
        return item and (lambda values: [None if value is None else item(value) for value in values])
    if types.is_decimal(kind):
        return float
    if types.is_temporal(kind):
        return str
    plain = (types.is_boolean, types.is_integer, types.is_floating, types.is_string, types.is_large_string, types.is_null)
    if any(is_one(kind) for is_one in plain) or "string" in str(kind):
        return None
    return refuse(name, f"values of the type {kind}")


def is_wanted(name, wanted):
    return name in wanted or wanted == {"*"}


def batches(pa, path, wanted):
    """(schema, record batches with the wanted columns that there are)"""
    with open(path, "rb") as file:
        head = file.read(6)
    if head.startswith(b"PAR1"):
        import pyarrow.parquet

        table = pyarrow.parquet.ParquetFile(path)
        columns = [name for name in table.schema_arrow.names if is_wanted(name, wanted)]
        return table.schema_arrow, table.iter_batches(batch_size=BATCH_ROWS, columns=columns)
    source = pa.memory_map(path)
    if head == b"ARROW1":
        table = pa.ipc.open_file(source)
        return table.schema, (table.get_batch(at) for at in range(table.num_record_batches))
    table = pa.ipc.open_stream(source)
    return table.schema, table


def rows(pa, path, wanted):
    schema, all_batches = batches(pa, path, wanted)
    twice = {name for name in schema.names if schema.names.count(name) > 1}
    if twice:
        sys.exit(f"column '{min(twice)}' is there twice: rename one")
    changes = {name: converter(pa, schema.field(name).type, name) for name in schema.names if is_wanted(name, wanted)}
    others = {name: None for name in schema.names if name not in changes}
    first = 1
    for whole in all_batches:
        for batch in (whole.slice(at, BATCH_ROWS) for at in range(0, whole.num_rows, BATCH_ROWS)):
            try:
                columns = [(name, change, batch.column(name).to_pylist()) for name, change in changes.items()]
            except (UnicodeDecodeError, ValueError, OverflowError) as problem:
                sys.exit(f"rows {first} to {first + batch.num_rows - 1}: {problem}")
            for at in range(batch.num_rows):
                row = {name: values[at] if change is None else change(values[at])
                       for name, change, values in columns if values[at] is not None}
                yield {**row, **others}
            first += batch.num_rows


def main():
    packages, path, *wanted = sys.argv[1:]
    sys.path[:0] = [packages]
    try:
        import pyarrow as pa
        import pyarrow.ipc
    except ImportError as problem:
        sys.exit(f"{problem}: run launch/setup.sh --with-parquet, which puts pyarrow into .deps/tables")
    out = open(1, "w", encoding="utf-8", buffering=1 << 20, closefd=False)
    try:
        for row in rows(pa, path, set(wanted)):
            out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":"), default=str) + "\n")
        out.flush()
    except (BrokenPipeError, ConnectionResetError):
        os._exit(1)  # who reads has what it wanted
    except pa.ArrowException as problem:
        sys.exit(f"no whole Parquet or Arrow IPC file: {str(problem).splitlines()[0]}")


main()
