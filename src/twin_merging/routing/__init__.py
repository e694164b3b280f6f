"""Stage route: features of the shared expert, and the router that reads them."""
