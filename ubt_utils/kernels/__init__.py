"""What costs on a GPU. Tensors in, tensors out; torch only, no profile, no file."""
