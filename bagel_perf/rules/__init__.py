"""The rules of what waits (the table is ``rules.table``), and names of torch that no documentation promises."""
