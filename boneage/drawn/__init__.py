"""Drawn hand radiographs whose mask, key points, sex and bone age are known, and pictures that are no hands."""
