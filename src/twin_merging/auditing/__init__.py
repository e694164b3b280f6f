"""Stage audit: records of jobs, the provenance of a suite's table, the checks of it, and their export as a crate."""
