"""Stage page: one HTML file that shows a suite's results to a reader, and needs no other file and no network."""
