"""The rules of what waits, as far as arguments decide; the table itself is ``rules.table``."""
