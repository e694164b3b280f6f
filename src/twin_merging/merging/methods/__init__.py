"""One file for each family of merging methods. A method is one function, marked with `merging_method`."""
