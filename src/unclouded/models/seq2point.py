"""Sequence to point: 3-D convolutions over Siamese residual trunks (Ebel et al. 2022, section III-A, Fig. 7)."""
