"""Stage fetch: bases, experts and data from the Hub, a folder or an installed package, in one form."""
