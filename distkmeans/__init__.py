"""k-means for embeddings at any scale, as one PyTorch job: exact, and bit-identical on 1 rank or 1,000."""

from distkmeans.api import Result, fit, predict
from distkmeans.errors import DistkmeansError, InputError, WorldError
from distkmeans.model import Model, load

__version__ = "0.1.0"
__all__ = ["DistkmeansError", "InputError", "Model", "Result", "WorldError", "fit", "load", "predict"]
