"""Stage choose: the values of a method's options that are chosen on validation rows."""
