"""One step on one batch: what it does to the batch's own loss, to other batches and to the validation set."""
