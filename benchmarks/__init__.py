"""Measure what the product promises, each figure beside its peer, in the same run."""
