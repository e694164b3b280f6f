"""Stage merge: the registry of methods, the code that runs a method, and the methods themselves."""
