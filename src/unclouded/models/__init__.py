"""Room 3: Batch -> Prediction, one file per method. The table of models is `MODELS`."""
