"""The networks, and their export.

backbones      networks of timm by name, as three feature maps
weights        the weights that a backbone starts from
depthwise      dilated depthwise convolution with a fast gradient
classifier     TagClassifier: tag scores and class maps
regiontagger   the region tagger: finds the superpixels that show a photo's tags
regionnet      RegionNet: a classifier of superpixels
pixelnet       PixelNet: the segmentation network
taghead        PixelNet with a tag head: the network that is served
localize       one pass of a network over a photo
warm_start     weights of an earlier network whose classes differ
saliency       saliency networks from ONNX files
normalization  how photos are normalized for saliency networks
export         PixelNet as a bundle, compared with PyTorch
parity         inputs on which networks that should agree are compared
quiet          what exporting libraries print
quantization   a bundle in int8, compared with float
"""
