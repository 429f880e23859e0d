"""Widgets that ask a live model: draw on a picture, write captions. Each has a still picture for pages and
viewers without a kernel."""

from pathlib import Path

FOLDER = Path(__file__).parent
