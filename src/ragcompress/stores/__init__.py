"""Stores that outlive the process: one module each, behind the ``MemoryStore`` protocol."""
