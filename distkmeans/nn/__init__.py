"""k-means inside models: differentiable pieces for any ``nn.Module``, on one rank or under DistributedDataParallel.

Seeded by ``distkmeans.fit`` through a plain tensor of centroids (K, D). They compute in float32 (float64 for float64),
with autocast or without; the contract of exact bits does not reach them, as gradients have none.
"""

from distkmeans.nn.cluster_loss import ClusterLoss, target_distribution
from distkmeans.nn.distances import squared_distances
from distkmeans.nn.revival import Revival
from distkmeans.nn.soft_assign import SoftAssign
from distkmeans.nn.vector_quantize import Ema, Quantized, VectorQuantize, perplexity, straight_through

__all__ = [
    "ClusterLoss",
    "Ema",
    "Quantized",
    "Revival",
    "SoftAssign",
    "VectorQuantize",
    "perplexity",
    "squared_distances",
    "straight_through",
    "target_distribution",
]
