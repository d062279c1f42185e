"""Training runs: configuration → data, model, `fit` → a folder."""
