"""Save and load, judged by equality with types, by other readers, by kills and by other saves."""
