"""The parts of `benchmarks/reliability.py`: what goes wrong, how, and what must hold after."""
