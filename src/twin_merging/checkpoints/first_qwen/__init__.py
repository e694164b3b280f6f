"""The first Qwen, which transformers loads by code of its repository alone, as the Qwen2 that computes the same.

Its modules are renamed, and a matrix of it that holds three of Qwen2's is cut: no number changes. Up to the length that
it was trained on (`seq_length`) it computes what Qwen2 computes with rotary positions of the same base; beyond it, it
scales its positions and its queries (`use_dynamic_ntk`, `use_logn_attn`), which Qwen2 does not, so that length becomes
the Qwen2's `max_position_embeddings`.
"""
