"""Stage generate: makes the material of the embedded suites.

For encoders it is eight text tasks that resemble GLUE's, and a small RoBERTa that is pretrained on sentences of the
same grammar. For language models it is four tasks that are asked by prompts, and a small Llama (`generative/`).
"""
