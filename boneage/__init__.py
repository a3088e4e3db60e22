"""Paediatric bone age from hand radiographs: this package reads a radiograph; `learn`, `drawn` and `clinic` are rooms of their own.
Every module but the packages' own first lines is exported from a notebook in `nbs`."""
__version__ = "0.1.0"

TERMS = 'For research and education only, no medical device.'
