"""Group-aware losses in TorchRL's form. The equations are in :mod:`masac.functional`."""
