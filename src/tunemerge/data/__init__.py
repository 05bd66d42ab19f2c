"""Rows: reading tables, checking columns, and splitting them so that nothing leaks."""
