"""The book: README, notebooks, method and code as pages that open from disk, and the slides of one lecture.

What people write lies in `docs/`; here is what turns it, the notebooks and the docstrings into pages.
"""
