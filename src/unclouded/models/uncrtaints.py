"""UnCRtainTS: several dates to one clear image with its variance (Ebel et al. 2023)."""
