"""How a job of the workflow runs: its log, its record, the digest of its code, its progress."""
