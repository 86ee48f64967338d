"""What a training run should say of itself at each validation: the verdict, the nulls and the floors of its own loss.

A loss that falls is no proof: a model that answers the mean spectrum halves it in an epoch and has learned no speech.
`ValidationMonitor` is a plain object for any loop; `calib.training.lightning` holds the callback for Lightning::

    monitor = ValidationMonitor(loss="huber", unit="ln magnitude", writer=SummaryWriter())
    for epoch in range(epochs):
        train(...)
        for batch in validation:
            monitor.update(model(batch), batch.mel, batch.lengths)
        reading = monitor.finish(epoch, loss=validation_loss)
        if reading.failed:
            print(reading.alarm)

The map:

- :mod:`calib.training.collect` - pairs as they come: exact sums over everything, and a sample of fixed size;
- :mod:`calib.training.monitor` - `ValidationMonitor` and its `Reading`;
- :mod:`calib.training.writers` - a reading to TensorBoard's ``SummaryWriter`` or to any function;
- :mod:`calib.training.lightning` - the callback; needs lightning or pytorch-lightning.

Nothing here imports torch: what looks like a tensor is turned into an array.
"""

from calib.training.monitor import Reading, ValidationMonitor

__all__ = ["Reading", "ValidationMonitor"]
