"""Sources of the fused kernels; `benchbench.native` compiles them."""
