"""A model repository of NVIDIA's Triton Inference Server, beside an artifact's graphs."""
