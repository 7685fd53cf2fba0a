"""Images: where they come from, how they are split and stored, how batches are drawn and augmented.

`sources` and `prepare` make the table of a data set and do without torch; `images` makes it resident on a device,
`batches` says which images an update sees, `augmentation` changes them.
"""
