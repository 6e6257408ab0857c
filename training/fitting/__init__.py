"""How a network is trained: the loop, sampling, augmentation, devices."""
