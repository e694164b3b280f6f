"""Files of tensors and text: read and written by ranges, whole or not at all."""
