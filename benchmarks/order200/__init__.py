"""An order of at least 200 tasks over the public tables, unattended."""
