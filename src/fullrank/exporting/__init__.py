"""Encoders for others: a folder that timm loads and the Hugging Face Hub takes as it is."""
