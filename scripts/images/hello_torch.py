"""Imports torch and multiplies two matrices, then exits."""
import time

started = time.time()
import torch

product = float((torch.ones(64, 64) @ torch.ones(64, 64)).sum())
seconds = time.time() - started
print("hello torch", torch.__version__, product, f"{seconds:.2f}s")
