"""Keeps pytest from importing the package's modules by file: they are namespace packages, and would get other names."""

collect_ignore = ["llama_index"]
