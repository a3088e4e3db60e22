"""Learning to read: data sets, networks, training, ensembles and evaluation, with PyTorch and fastai."""
import warnings

warnings.filterwarnings('ignore', message='.*torch.jit.script', category=FutureWarning)  # torchvision's own, at import
