"""Stage finetune: experts that are trained here, from the base."""
