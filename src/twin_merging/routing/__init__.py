"""Stage route: computes features with the shared expert, and makes the router that reads them."""
