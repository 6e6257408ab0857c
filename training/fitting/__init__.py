"""Fitting a network to data.

loop            one training loop for every network, with checkpoints
settings        epochs, steps and learning rates
adjustment      labels that are rare in training are not given up
evidence_odds   how much scores of superpixels, and saliency, say
inputs          crops with tags or masks, and seeds, as torch data sets
sampling        which photos an epoch shows
augmentation    random scale, crop, flip and colour
pasting         objects pasted from photo to photo
balance         PixelNet paints no less than in the round before, and enough of each class
tag_doubts      tags that the other photos contradict
tag_regression  the tag head, fitted to the photos' tags
devices         the device, and processes that train together
process         threads and memory of a training on a CPU
"""
