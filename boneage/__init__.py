"""Paediatric bone age from hand radiographs; every module but this one is exported from a notebook in `nbs`."""
import warnings

__version__ = "0.1.0"

warnings.filterwarnings('ignore', message='.*torch.jit.script', category=FutureWarning)  # torchvision's own, at import
