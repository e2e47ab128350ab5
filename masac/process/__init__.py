"""The process around a run: signals, threads, memory, tracebacks, the compiler's cache."""
