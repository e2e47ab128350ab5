"""Group-aware losses in TorchRL's form."""
