"""Measure what the product promises, each figure together with its peer, in the same run."""
