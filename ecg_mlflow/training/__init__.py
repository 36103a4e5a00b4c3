"""Train and evaluate models on one stream of batches.

The modules that load Keras and TensorFlow are `step`, `fused_norm` and `saliency`.
"""
