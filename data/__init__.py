"""Images: which data sets there are, how they are split, varied and drawn in batches."""
