"""Speed of ``calib stats`` beside the field's own statistics commands, memory, scaling and accuracy."""
