"""Networks as people have them, by kind: detectors, segmentation, video, transformers, audio, GANs, diffusion.

Every network is built from a configuration or from the code here, with random weights; nothing is downloaded. Wide or
deep ones are built narrower or shallower, because operators, not sizes, decide what can be reordered.
"""
