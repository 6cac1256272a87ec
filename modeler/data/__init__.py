"""Data: files, tables, the split into training and hold-out, and the contract that is derived of them."""

from modeler.data.columns import feature_type
from modeler.data.copies import find_copies
from modeler.data.derive import check_table, derive_contract
from modeler.data.dialect import CsvFormat
from modeler.data.drift import LEAST_PSI, count_values, list_counts, name_bins
from modeler.data.leaks import find_leaks
from modeler.data.rare import settle_rare_classes
from modeler.data.rows import raw_records, split_rows
from modeler.data.tables import load_table
from modeler.data.timeline import note_time, order_rows

__all__ = [
    "LEAST_PSI",
    "CsvFormat",
    "check_table",
    "count_values",
    "derive_contract",
    "feature_type",
    "find_copies",
    "find_leaks",
    "list_counts",
    "load_table",
    "name_bins",
    "note_time",
    "order_rows",
    "raw_records",
    "settle_rare_classes",
    "split_rows",
]
