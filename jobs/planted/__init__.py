"""Networks whose circuits are known, to hold the ways of choosing kernels against."""
