"""Room 1a: benchmark data sets and the simulated place -> Sample."""
