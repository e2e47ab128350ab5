"""Collectors: rollouts in this process, in other processes of this machine, or in Ray actors on several machines."""
