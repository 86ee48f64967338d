"""The calibrators: how a prediction is brought to its target, and which way is chosen.

`fits` (closed forms from the moments), `sampled` (what needs frames: Huber, isotonic, monotone), `binfits` (per bin, with
shrinkage), `crossmoments` (the matrix between bins), `constants` (known exact maps), `floors` (fits above a point mass),
`rule` (what a chosen calibrator does to a mel), `selection` (grouped cross-validation, one standard error, the simplest
wins), `calibration` (all of it in order).
"""
