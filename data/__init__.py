"""Images: the available data sets, their splits, augmentation and batches."""
