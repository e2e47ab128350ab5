"""The trainer: collect, store, sample, update, evaluate, write."""
