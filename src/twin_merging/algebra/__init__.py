"""Decompositions of matrices that always end: in a result that was checked, or in an error that names the tensor."""
