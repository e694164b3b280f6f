"""The page at `/`, by which people try the server."""

from __future__ import annotations

from importlib.resources import files

# The page loads nothing from anywhere, asks this server alone, and stands in no other page.
PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
PAGE = files("twin_merging.serving.http").joinpath("page.html").read_text()
