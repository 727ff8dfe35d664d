"""Training of deep networks in PyTorch; with the deep files of ``algorithms`` the only place that may import torch."""
