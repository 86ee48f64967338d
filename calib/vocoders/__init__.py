"""Vocoders: mel to audio. Each declares its front end; each but Griffin-Lim reads it from its own configuration.

===================  =================================================================================================
module               what is in it
===================  =================================================================================================
``griffin_lim``      `griffin-lim`: no weights, any front end that can be undone
``hifigan``          `hifigan`: the official checkpoints, V1, V2, V3; the generator that others build on
``huggingface``      `speecht5-hifigan`: transformers' HiFi-GAN folders, with their mean and scale
``bigvgan``          `bigvgan`: NVIDIA's, version 1 and 2
``vocos``            `vocos`: the official format, ISTFT head
``exported``         `torchscript`, `torch-export`: modules that carry their own code
``neural``           what these share: `NeuralVocoder`, finding files, reading configurations
``weights``          weight normalisation old and new, strict loading, the load report
``unrolled``         `unrolled`: Griffin-Lim with learned steps; ``train`` makes its numbers
``check``            what ``calib check vocoder`` measures
===================  =================================================================================================
"""
