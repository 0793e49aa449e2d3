"""Room 7: recipes in, trained weights out. `train` runs a recipe, `adapt` fine-tunes on a user's own place.

recipe.py       a published row as TOML, checked word by word
sense.py        what a recipe says and would be ignored is refused
data.py         folders (or the simulated place) -> batches, decided by seed and step alone
samples.py      what happens to samples on the way: cut to dates, masked, clear
vgg16.py        the network behind perceptual losses, and its training on land cover
regression.py   one network against the truth                                 Lightning task
adversarial.py  generators against discriminators                             Lightning task
checkpoint.py   everything a run is, in one file that appears whole
run.py          the flow: open, step, validate, save, write the card

Lightning stays in this room, and is imported only when a run starts.
"""
