"""The parts of the comparisons with BenchMARL.

``run.py`` and ``done_signals.py`` are scripts for the Python of BenchMARL's virtual environment; they import no masac.
"""
