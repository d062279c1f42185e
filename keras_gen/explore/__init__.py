"""The page of `keras-gen explore`."""
