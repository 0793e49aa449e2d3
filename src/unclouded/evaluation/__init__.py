"""Evaluation: every paper's protocol by name, one evaluator, one report. Above models; nothing imports it but the command line.

`presets` name the conventions, `benchmarks` the tables of the papers with their published numbers, `views` the protocols;
`scoring` scores one image, `evaluate` runs models over a data set; `bootstrap` gives intervals, `report` one HTML file.
"""
