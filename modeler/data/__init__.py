"""Data: files, tables, the split into training and hold-out, and the contract that is derived of them."""

from modeler.data.columns import feature_type
from modeler.data.copies import find_copies
from modeler.data.derive import check_table, derive_contract
from modeler.data.dialect import CsvFormat
from modeler.data.leaks import find_leaks
from modeler.data.rare import settle_rare_classes
from modeler.data.rows import raw_records, split_rows
from modeler.data.tables import load_table
from modeler.data.timeline import note_time, order_rows

__all__ = [
    "CsvFormat",
    "check_table",
    "derive_contract",
    "feature_type",
    "find_copies",
    "find_leaks",
    "load_table",
    "note_time",
    "order_rows",
    "raw_records",
    "settle_rare_classes",
    "split_rows",
]
