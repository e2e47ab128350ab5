"""Where transitions come from: this process, others of this machine, or Ray's actors on many."""
