"""Quality of masks and bundles.

metrics     confusion of pixels, IoU and mIoU
measure     the result of a stage against true masks
evaluate    a bundle on photos with true masks
audit       tags that may be wrong, by what a bundle sees
compare     two bundles on the same photos
corrected   a bundle on corrected photos, and intervals of such figures
estimate    the IoU to expect, without true masks
run_files   the files of a run for a photo, as they are read after it
suggestion  the photos of a run to correct first
painted     classes that are hardly ever painted
agreement   whether a saliency network, and hints, follow the tags
warnings    the faults that the last two find
"""
