"""Stage compress: each task's exclusive knowledge, decomposed per matrix."""
