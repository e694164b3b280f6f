"""Stages task_vectors and training_statistics: what fine-tuning changed, and what merging needs of training rows."""
