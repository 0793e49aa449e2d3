"""Every table of the five papers, run as far as data and weights at hand allow: `python -m unclouded.reproduce NAME`.

A folder reproduce/NAME holds `table.toml`: what stands for each printed row, and what it needs. `table` reads it, `stand_ins`
finds or trains the models, `run` evaluates them and puts ours beside the printed numbers, `layers` compares architectures,
`pages` writes the folders' README.
"""
