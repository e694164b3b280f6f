"""Stage compress: decomposes each task's exclusive knowledge, matrix by matrix."""
