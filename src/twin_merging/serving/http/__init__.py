"""The server's HTTP side: what a request may say, and how its answers are written."""
