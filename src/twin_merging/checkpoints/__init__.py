"""Models on disk: what an architecture holds, how names match, what an expert is, and which group a parameter is in."""
