"""Sparse tensors on a loop nest: density, formats, gating and skipping, on the dense counts."""
